// Logits -> answers, by the answers and the calibration of the manifest.

const TYPES = ["binary", "open_ended"];

// outputs: name -> array of numbers, of one question. Gives {answers, questionType, unanswered, unfamiliar}; answers
// are {answer, score}, the best `topK`.
export function decode(outputs, manifest, topK) {
  const calibration = manifest.calibration ?? {};
  const temperatures = calibration.temperatures ?? {};
  const shares = (name) => softmax(finite(name, outputs[`${name}_logits`]), temperatures[name] ?? 1);
  const heads = TYPES.filter((name) => outputs[`${name}_logits`]);
  const router = heads.length === 2 ? shares("question_type") : null;
  const questionType = router ? TYPES[indexOfLargest(router)] : heads[0];
  const share = router ? Math.max(...router) : 1;
  const words = manifest.answers[questionType];
  const scores = shares(questionType);
  if (scores.length !== words.length) {
    throw new Error(`The model has ${scores.length} answers and their list ${words.length}: export it again.`);
  }
  const answers = scores
    .map((score, place) => ({ answer: words[place], score: score * share }))
    .sort((one, other) => other.score - one.score)
    .slice(0, topK);
  const promise = calibration.abstention;
  // Of groups by a column, which nobody names here, nothing is promised.
  const own = promise?.by ? (promise.by === "head" && promise.groups[questionType]) || { threshold: Infinity } : promise;
  const threshold = own?.threshold ?? -Infinity;
  return {
    answers,
    questionType,
    unanswered: !(answers[0].score >= threshold),
    unfamiliar: unfamiliar(outputs, heads, calibration.familiarity ?? {}),
  };
}

export function softmax(logits, temperature = 1) {
  const most = Math.max(...logits);
  const powers = Array.from(logits, (value) => Math.exp((value - most) / temperature));
  const total = powers.reduce((sum, value) => sum + value, 0);
  return powers.map((value) => value / total);
}

// What is further from those of training than the limits say: {image, question}, null for one that isn't judged; null
// where nothing is.
function unfamiliar(outputs, heads, limits) {
  const judge = (name) =>
    name in limits && outputs[`${name}_novelty`] ? !(outputs[`${name}_novelty`][0] <= limits[name]) : null;
  const found = { image: judge("image"), question: judge("question") };
  return found.image || found.question || isUnfamiliar(outputs, heads, limits) ? found : null;
}

// The same of a model that an earlier version saved, which can't tell what.
function isUnfamiliar(outputs, heads, limits) {
  const novelty = {};
  if (outputs.novelty) novelty.distance = outputs.novelty[0];
  const chosen = heads.length === 2 ? TYPES[indexOfLargest(outputs.question_type_logits)] : heads[0];
  novelty[`${chosen}_energy`] = energy(outputs[`${chosen}_logits`]);
  return Object.entries(limits).some(([name, limit]) => name in novelty && !(novelty[name] <= limit));
}

function energy(logits) {
  const most = Math.max(...logits);
  return -(most + Math.log(Array.from(logits).reduce((sum, value) => sum + Math.exp(value - most), 0)));
}

function indexOfLargest(values) {
  return values.indexOf(Math.max(...values));
}

function finite(name, logits) {
  if (logits.every(Number.isFinite)) return logits;
  throw new Error(`The model's ${name} values aren't finite: its files are damaged. Export it again.`);
}

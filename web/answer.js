// One answered question as an item of the page's list.

const LEAST = 0.001; // what scores are told to

// found: what Model.ask gives -> an <li> with the answer in words, and bars of the scores
export function answerItem(question, found) {
  const item = element("li", "answer");
  item.append(element("p", "asked", question), headline(found));
  for (const note of notes(found)) item.append(element("p", "note", note));
  const list = element("ul", "bars");
  list.setAttribute("aria-label", "Scores");
  const worthABar = found.answers.filter(({ score }, place) => place < 2 || score >= LEAST);
  worthABar.forEach((one) => list.append(bar(one)));
  item.append(list);
  return item;
}

function headline({ answers: [best], unanswered, unfamiliar }) {
  const line = element("p", "best");
  if (unanswered || unfamiliar) {
    line.classList.add("unsure");
    line.append("Not sure enough to answer", element("small", "", `Its best guess: ${best.answer}, ${percent(best.score)}`));
  } else {
    line.append(best.answer, element("small", "", percent(best.score)));
  }
  return line;
}

function* notes({ unfamiliar, cut }) {
  if (unfamiliar) yield `${unlike(unfamiliar)} unlike what this model learned from: don't rely on the answer.`;
  if (cut) yield "The question is longer than the model reads: only a part of it was read.";
}

function unlike({ image, question }) {
  if (image && question) return "Picture and question are";
  if (image) return "The picture is";
  return question ? "The question is" : "Picture or question are";
}

function bar({ answer, score }) {
  const item = element("li"), line = element("span", "track"), fill = element("span", "fill");
  line.setAttribute("aria-hidden", "true");
  fill.style.width = `${100 * score}%`;
  line.append(fill);
  item.append(element("span", "word", answer), line, element("span", "share", percent(score)));
  return item;
}

export function percent(score) {
  if (score < LEAST) return "< 0.1 %";
  if (score > 1 - LEAST) return "> 99.9 %";
  return `${(100 * score).toFixed(1)} %`;
}

export function element(name, className = "", text = "") {
  return Object.assign(document.createElement(name), { className, textContent: text });
}

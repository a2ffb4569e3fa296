// A question -> token ids, as `question` of the manifest says.

export const MAX_CHARACTERS = 10_000; // a tokenizer reads all of a text before it is cut

// The text of a question that can be asked; an Error says in words why another can't.
export function checked(question) {
  if (!/[^\s\p{Cc}\p{Cf}]/u.test(question.slice(0, MAX_CHARACTERS))) throw new Error("Type a question first.");
  const length = [...question].length;
  if (length > MAX_CHARACTERS) {
    const [limit, found] = [MAX_CHARACTERS, length].map((count) => count.toLocaleString("en"));
    throw new Error(`That is too long for a question: it has ${found} characters, at most ${limit} are read.`);
  }
  if (/\p{Surrogate}/u.test(question)) throw new Error("The question has half a character in it. Type it again.");
  return question;
}

// tokenizer: one of @huggingface/tokenizers -> {ids, cut}, cut where only the beginning or the end is read.
export function encode(tokenizer, question, settings) {
  const whole = tokenizer.encode(checked(question)).ids;
  const limit = settings.max_tokens ?? Infinity;
  if (whole.length <= limit) return { ids: whole, cut: false };
  // Special tokens stay around what is left of the others.
  const bare = tokenizer.encode(question, { add_special_tokens: false }).ids;
  const room = Math.max(0, limit - (whole.length - bare.length));
  const kept = settings.truncation_side === "left" ? bare.slice(bare.length - room) : bare.slice(0, room);
  const before = startOf(whole, bare);
  const after = whole.length - before - bare.length;
  return { ids: [...whole.slice(0, before), ...kept, ...whole.slice(whole.length - after)], cut: true };
}

// How many special tokens stand before the others.
function startOf(whole, bare) {
  for (let place = 0; place <= whole.length - bare.length; place++) {
    if (bare.every((id, k) => whole[place + k] === id)) return place;
  }
  throw new Error("This page can't read this model's tokenizer: its special tokens stand between the others.");
}

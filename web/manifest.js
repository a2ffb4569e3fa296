// What `dualvqa export` says of a model, onnx.json, checked before anything large is downloaded.

const FORMAT = 2;
const AGAIN = "Whoever made this page should export the model again.";

export const PARTS = ["vision", "text", "heads"];

// The manifest as it was given; an Error says in words why it can't be read.
export function checkedManifest(manifest) {
  if (manifest?.format !== FORMAT) {
    throw new Error(`The model has format ${manifest?.format}, and this page reads format ${FORMAT}. ${AGAIN}`);
  }
  for (const name of ["image", "question", "answers"]) {
    if (!manifest[name]) throw new Error(`The model's onnx.json doesn't say how the ${name} is read. ${AGAIN}`);
  }
  const needed = [...PARTS.map((part) => `${part}.onnx`), manifest.question.tokenizer];
  const missing = needed.find((name) => !manifest.files?.[name]);
  if (missing) throw new Error(`The model's onnx.json names no file ${missing}. ${AGAIN}`);
  return manifest;
}

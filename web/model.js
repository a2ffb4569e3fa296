// An exported model in the browser: a picture is encoded once, and asked about as often as one likes.

import { Tokenizer } from "./vendor/tokenizers/tokenizers.min.mjs";
import * as ort from "./vendor/onnxruntime-web/ort.wasm.min.mjs";
import { decode } from "./decoding.js";
import { readFiles, readJson } from "./download.js";
import { checkedManifest, PARTS } from "./manifest.js";
import { toPixels } from "./preprocessing.js";
import { encode } from "./question.js";
import { threads } from "./requirements.js";

const RUNTIME = "vendor/onnxruntime-web/ort-wasm-simd-threaded.wasm";
// onnxruntime's fusion of an addition with the layer norm behind it takes eight times as long on CPUs as the two.
const OPTIONS = { executionProviders: ["wasm"], extra: { optimization: { disable_specified_optimizers: "SkipLayerNormFusion" } } };

export class Model {
  constructor(manifest, tokenizer, sessions) {
    Object.assign(this, { manifest, tokenizer, sessions });
  }

  // folder: address of what `dualvqa export --to web` wrote. `tell(loaded, total)` hears of the download, in bytes.
  static async load(folder, tell = () => {}) {
    const manifest = checkedManifest(await readJson(new URL("model/onnx.json", folder)));
    const { [RUNTIME]: digest } = await readJson(new URL("files.json", folder));
    const files = { [RUNTIME]: { address: new URL(RUNTIME, folder), digest } };
    for (const name of [...PARTS.map((part) => `${part}.onnx`), manifest.question.tokenizer]) {
      files[name] = { address: new URL(`model/${name}`, folder), digest: manifest.files[name] };
    }
    const contents = await readFiles(files, tell);
    const tokenizer = new Tokenizer(JSON.parse(new TextDecoder().decode(contents[manifest.question.tokenizer])), {});
    Object.assign(ort.env.wasm, { numThreads: threads(), wasmBinary: contents[RUNTIME].buffer });
    ort.env.wasm.wasmPaths = new URL("vendor/onnxruntime-web/", folder).href;
    const sessions = {};
    for (const part of PARTS) sessions[part] = await ort.InferenceSession.create(contents[`${part}.onnx`], OPTIONS);
    return new Model(manifest, tokenizer, sessions);
  }

  // image {width, height, data} -> its embedding, for `ask`
  async see(image) {
    const { data, dims } = toPixels(image, this.manifest.image);
    const { image_embeds } = await this.run("vision", { pixel_values: new ort.Tensor("float32", data, dims) });
    return image_embeds;
  }

  // -> {answers, questionType, unanswered, unfamiliar, cut}; see decoding.js
  async ask(embedding, question, topK = 5) {
    const { ids, cut } = encode(this.tokenizer, question, this.manifest.question);
    const input_ids = integers(ids, [1, ids.length]);
    const attention_mask = integers(ids.map(() => 1), [1, ids.length]);
    const { text_embeds } = await this.run("text", { input_ids, attention_mask });
    const indices = { image_index: integers([0], [1]), question_index: integers([0], [1]) };
    const found = await this.run("heads", { image_embeds: embedding, text_embeds, attention_mask, ...indices });
    const outputs = Object.fromEntries(Object.entries(found).map(([name, tensor]) => [name, Array.from(tensor.data)]));
    return { ...decode(outputs, this.manifest, topK), cut };
  }

  // Inputs that a part doesn't take are left out.
  async run(part, inputs) {
    const session = this.sessions[part];
    return session.run(Object.fromEntries(session.inputNames.map((name) => [name, inputs[name]])));
  }
}

function integers(values, dims) {
  return new ort.Tensor("int64", BigInt64Array.from(values, BigInt), dims);
}

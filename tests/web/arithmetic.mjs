// Reads calls of the page's functions from its input and prints what they give, for tests in Python.

import { readFileSync } from "node:fs";
import { decode } from "../../web/decoding.js";
import { isDeepGrey, readDeepGrey } from "../../web/deep_grey.js";
import { checkedManifest } from "../../web/manifest.js";
import { turned, webpOrientation } from "../../web/orientation.js";
import { toPixels } from "../../web/preprocessing.js";
import { encode } from "../../web/question.js";
import { whatIsMissing } from "../../web/requirements.js";

const CALLS = {
  pixels({ width, height, data }, settings) {
    const found = toPixels({ width, height, data: Uint8ClampedArray.from(Buffer.from(data, "base64")) }, settings);
    return { dims: found.dims, data: Buffer.from(found.data.buffer).toString("base64") };
  },
  async deepGrey(file) {
    const blob = new Blob([Buffer.from(file, "base64")]);
    if (!(await isDeepGrey(blob))) return null;
    const { width, height, data } = await readDeepGrey(blob, (wide, high) => {
      if (wide * high > 50_000_000) throw new Error(`${wide} x ${high} pixels`);
    });
    return { width, height, data: Buffer.from(data).toString("base64") };
  },
  turnedByWebp({ width, height, data }, file) {
    const orientation = webpOrientation(Buffer.from(file, "base64"))?.orientation ?? null;
    const image = { width, height, data: Uint8ClampedArray.from(Buffer.from(data, "base64")) };
    const found = turned(image, orientation ?? 1);
    return { ...found, orientation, data: Buffer.from(found.data).toString("base64") };
  },
  decode,
  // A tokenizer of words that are their own ids, between 101 and 102.
  encode(question, settings) {
    const tokenizer = {
      encode(text, { add_special_tokens: special = true } = {}) {
        const ids = text.split(" ").map(Number);
        return { ids: special ? [101, ...ids, 102] : ids };
      },
    };
    return encode(tokenizer, question, settings);
  },
  checkedManifest,
  whatIsMissing: (browser) => whatIsMissing(browser === "this" ? globalThis : browser),
  withoutSimd: () => whatIsMissing({ WebAssembly: { validate: () => false } }),
};

async function called([name, ...given]) {
  try {
    return { found: await CALLS[name](...given) };
  } catch (error) {
    return { error: error.message };
  }
}

console.log(JSON.stringify(await Promise.all(JSON.parse(readFileSync(0)).map(called))));

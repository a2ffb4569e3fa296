// A file -> its picture as a person sees it: upright, in RGB, transparency over white, no colour profile applied.

import { isDeepGrey, readDeepGrey } from "./deep_grey.js";
import { turned, webpOrientation } from "./orientation.js";

const LARGEST_FILE = 128 * 2 ** 20; // bytes
const LARGEST_IMAGE = 50_000_000; // pixels; both as in Python
const BAND = 4_000_000; // pixels: phones have no larger canvas than four times that

// file: a Blob -> {width, height, data}, data RGBA of 8 bits; an Error says in words why there is none.
export async function readImage(file) {
  if (!file.size) throw new Error("That file is empty.");
  if (file.size > LARGEST_FILE) {
    throw new Error(`That file has ${Math.round(file.size / 2 ** 20)} MiB, too many for a picture: at most 128.`);
  }
  if (await isDeepGrey(file)) return readDeepGrey(file, checkPixels);
  await checkSize(file);
  const { plain, orientation } = await withoutOrientation(file);
  const bitmap = await decoded(plain);
  try {
    return turned(pixels(bitmap), orientation);
  } finally {
    bitmap.close();
  }
}

// An image element knows its size before anything is decoded, so a bomb stays packed.
async function checkSize(file) {
  const url = URL.createObjectURL(file);
  const element = new Image();
  try {
    await new Promise((resolve, reject) => {
      element.onload = resolve;
      element.onerror = () => reject(new Error(notAnImage(file)));
      element.src = url;
    });
    checkPixels(element.naturalWidth, element.naturalHeight);
  } finally {
    URL.revokeObjectURL(url);
    element.src = "";
  }
}

function checkPixels(width, height) {
  if (width * height > LARGEST_IMAGE) {
    throw new Error(`That picture has ${width} × ${height} pixels, more than this page reads: make it smaller, to 50 million.`);
  }
}

// Some browsers turn WebP pictures as their EXIF says and others don't: none does where the file says nothing.
async function withoutOrientation(file) {
  const head = new Uint8Array(await file.slice(0, 12).arrayBuffer());
  if (String.fromCharCode(...head.subarray(8)) !== "WEBP") return { plain: file, orientation: 1 };
  const bytes = new Uint8Array(await file.arrayBuffer()), found = webpOrientation(bytes);
  if (found === null) return { plain: file, orientation: 1 };
  bytes[found.place] = 1;
  return { plain: new Blob([bytes], { type: "image/webp" }), orientation: found.orientation };
}

async function decoded(file) {
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  try {
    return await createImageBitmap(file, options);
  } catch {
    throw new Error(notAnImage(file));
  }
}

function notAnImage(file) {
  const kind = file.type ? ` (${file.type})` : "";
  return `That is not a picture that this browser can read${kind}. JPEG, PNG, WebP, GIF and AVIF are read everywhere.`;
}

// Read band by band, each over white.
function pixels(bitmap) {
  const { width, height } = bitmap;
  const rows = Math.min(height, Math.max(1, Math.floor(BAND / width)));
  const canvas = Object.assign(document.createElement("canvas"), { width, height: rows });
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  if (!context) throw new Error("This browser has not enough memory for that picture.");
  const data = new Uint8ClampedArray(width * height * 4);
  for (let top = 0; top < height; top += rows) {
    context.fillStyle = "white";
    context.fillRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, -top);
    const count = Math.min(rows, height - top);
    data.set(context.getImageData(0, 0, width, count).data, top * width * 4);
  }
  return { width, height, data };
}

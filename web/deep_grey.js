// A grey PNG of 16 bits: browsers cut its values to 8 bits, Python stretches them from the darkest to the brightest.

import { exifOrientation, turned } from "./orientation.js";

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const DAMAGED = "That PNG is damaged.";
// Adam7: the first column and row of each pass, and the steps to the next ones.
const PASSES = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];

export async function isDeepGrey(file) {
  const head = new Uint8Array(await file.slice(0, 26).arrayBuffer());
  return SIGNATURE.every((byte, place) => head[place] === byte) && head[24] === 16 && head[25] === 0;
}

// file: a Blob of such a PNG -> {width, height, data}, data RGBA of 8 bits. `checkPixels` refuses what is too large.
export async function readDeepGrey(file, checkPixels) {
  const { header, packed, hole, orientation } = chunks(new Uint8Array(await file.arrayBuffer()));
  const { width, height, interlaced } = header;
  checkPixels(width, height);
  const passes = (interlaced ? PASSES : [[0, 0, 1, 1]])
    .map(([left, top, right, down]) => ({
      left, top, right, down, columns: Math.ceil((width - left) / right), rows: Math.ceil((height - top) / down),
    }))
    .filter(({ columns, rows }) => columns > 0 && rows > 0);
  const bytes = await inflated(packed, passes.reduce((sum, { columns, rows }) => sum + rows * (1 + 2 * columns), 0));
  const values = new Uint16Array(width * height);
  let place = 0;
  for (const { left, top, right, down, columns, rows } of passes) {
    const size = 2 * columns;
    let above = new Uint8Array(size);
    for (let row = 0; row < rows; row++, place += 1 + size) {
      const line = bytes.subarray(place + 1, place + 1 + size);
      unfilter(bytes[place], line, above);
      const start = (top + row * down) * width + left;
      for (let x = 0; x < columns; x++) values[start + x * right] = (line[2 * x] << 8) | line[2 * x + 1];
      above = line;
    }
  }
  return turned({ width, height, data: shown(values, hole) }, orientation);
}

function chunks(bytes) {
  const view = new DataView(bytes.buffer), packed = [];
  let header = null, hole = null, orientation = 1;
  for (let place = 8; place + 12 <= bytes.length; ) {
    const size = view.getUint32(place), name = String.fromCharCode(...bytes.subarray(place + 4, place + 8));
    const body = place + 8, end = body + size;
    if (end > bytes.length) throw new Error(DAMAGED);
    if (name === "IHDR") {
      header = { width: view.getUint32(body), height: view.getUint32(body + 4), interlaced: bytes[body + 12] === 1 };
    }
    if (name === "IDAT") packed.push(bytes.subarray(body, end));
    if (name === "tRNS" && size >= 2) hole = view.getUint16(body);
    if (name === "eXIf") orientation = exifOrientation(bytes, body, end)?.orientation ?? 1;
    place = end + 4; // behind the checksum
  }
  if (!header?.width || !header.height || !packed.length) throw new Error(DAMAGED);
  return { header, packed, hole, orientation };
}

// The first `size` bytes of what is packed, and no more of it.
async function inflated(packed, size) {
  const reader = new Blob(packed).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const bytes = new Uint8Array(size);
  let count = 0;
  while (count < size) {
    const { done, value } = await reader.read().catch(() => ({ done: true }));
    if (done) throw new Error(DAMAGED);
    bytes.set(value.subarray(0, size - count), count);
    count += value.length;
  }
  reader.cancel().catch(() => {});
  return bytes;
}

// Undoes a line's filter in place (PNG specification, section 9); a value has two bytes.
function unfilter(filter, line, above) {
  if (filter > 4) throw new Error(DAMAGED);
  for (let place = 0; filter && place < line.length; place++) {
    const left = place < 2 ? 0 : line[place - 2], corner = place < 2 ? 0 : above[place - 2];
    line[place] += [0, left, above[place], (left + above[place]) >> 1, paeth(left, above[place], corner)][filter];
  }
}

function paeth(left, above, corner) {
  const guess = left + above - corner;
  const [far, near, mid] = [guess - left, guess - above, guess - corner].map(Math.abs);
  return far <= near && far <= mid ? left : near <= mid ? above : corner;
}

// Values within 0..255 as they are, others from the darkest to the brightest; the value that is a hole is white.
function shown(values, hole) {
  const { fround } = Math;
  let low = 65535, high = 0;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const step = high > low ? fround(255 / (high - low)) : 0;
  const data = new Uint8ClampedArray(4 * values.length); // rounds half to even, as Python does
  for (let place = 0; place < values.length; place++) {
    const value = values[place];
    const grey = value === hole ? 255 : high <= 255 ? value : fround((value - low) * step);
    data.fill(grey, 4 * place, 4 * place + 3);
    data[4 * place + 3] = 255;
  }
  return data;
}

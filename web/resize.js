// Pillow's antialiased resizing of 8-bit images: the same weights in the same fixed-point arithmetic.

const PRECISION_BITS = 22; // Pillow's, of 32: 8 for a value and 2 for weights beyond 1

// Interpolation -> how far from its centre a filter reaches, and its value there. Bicubic is Keys' with a = -0.5.
const FILTERS = {
  box: { support: 0.5, at: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: { support: 1, at: hamming },
  bicubic: { support: 2, at: bicubic },
  lanczos: { support: 3, at: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

// image {width, height, data}, data RGBA of 8 bits -> one of the given size; opacity is not looked at.
export function resize(image, width, height, resample) {
  if (image.width === width && image.height === height) return image;
  if (resample === "nearest") return nearest(image, width, height);
  const filter = FILTERS[resample];
  if (!filter) throw new Error(`This page doesn't know the interpolation ${resample}.`);
  const strip = image.height > 100 * image.width && height < image.height; // whose columns Pillow takes first
  if (strip) image = resizeColumns(image, height, filter);
  const wide = image.width === width ? image : resizeRows(image, width, filter);
  return wide.height === height ? wide : resizeColumns(wide, height, filter);
}

// For each place of the output: the first place of the input that it reads, and its weights as integers.
function weightsOf(inSize, outSize, filter) {
  const scale = inSize / outSize;
  const stretch = Math.max(scale, 1); // where an image becomes smaller a filter reads as much more: antialiasing
  const support = filter.support * stretch;
  return Array.from({ length: outSize }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(inSize, Math.trunc(centre + support + 0.5));
    const values = Array.from({ length: last - first }, (_, k) => filter.at((k + first - centre + 0.5) * (1 / stretch)));
    const total = values.reduce((sum, value) => sum + value, 0);
    return { first, weights: Int32Array.from(values, (value) => rounded(total ? value / total : value)) };
  });
}

function rounded(weight) {
  return Math.trunc(weight * 2 ** PRECISION_BITS + (weight < 0 ? -0.5 : 0.5));
}

// A Uint8ClampedArray cuts at 0 and 255 what is stored in it.
function resizeRows(image, width, filter) {
  const { height, data } = image;
  const found = new Uint8ClampedArray(width * height * 4).fill(255);
  const all = weightsOf(image.width, width, filter);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      sum(data, (y * image.width + all[x].first) * 4, 4, all[x].weights, found, (y * width + x) * 4);
    }
  }
  return { width, height, data: found };
}

function resizeColumns(image, height, filter) {
  const { width, data } = image;
  const found = new Uint8ClampedArray(width * height * 4).fill(255);
  weightsOf(image.height, height, filter).forEach(({ first, weights }, y) => {
    for (let x = 0; x < width; x++) {
      sum(data, (first * width + x) * 4, width * 4, weights, found, (y * width + x) * 4);
    }
  });
  return { width, height, data: found };
}

// The weighted sum of the pixels from `place` on, `step` apart, as the pixel of `found` at `target`.
function sum(data, place, step, weights, found, target) {
  const half = 1 << (PRECISION_BITS - 1);
  let red = half, green = half, blue = half;
  for (let k = 0; k < weights.length; k++, place += step) {
    red += data[place] * weights[k];
    green += data[place + 1] * weights[k];
    blue += data[place + 2] * weights[k];
  }
  found[target] = red >> PRECISION_BITS;
  found[target + 1] = green >> PRECISION_BITS;
  found[target + 2] = blue >> PRECISION_BITS;
}

function nearest(image, width, height) {
  const columns = places(image.width, width), rows = places(image.height, height);
  const from = new Uint32Array(image.data.buffer, image.data.byteOffset, image.width * image.height);
  const found = new Uint32Array(width * height);
  rows.forEach((row, y) => columns.forEach((column, x) => { found[y * width + x] = from[row * image.width + column]; }));
  return { width, height, data: new Uint8ClampedArray(found.buffer) };
}

// Summed up step by step as Pillow does, so that rounding is the same.
function places(inSize, outSize) {
  const step = inSize / outSize;
  let place = step * 0.5;
  return Array.from({ length: outSize }, () => {
    const found = Math.trunc(place);
    place += step;
    return found;
  });
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

function hamming(x) {
  x = Math.abs(x);
  return x >= 1 ? 0 : sinc(x) * (0.54 + 0.46 * Math.cos(x * Math.PI));
}

function bicubic(x) {
  x = Math.abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

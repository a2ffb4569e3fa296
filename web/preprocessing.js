// An RGB image -> the pixels that the vision tower reads, as `image` of the manifest says.

import { resize } from "./resize.js";

// image {width, height, data}, data RGBA of 8 bits -> {data: Float32Array, dims: [1, 3, H, W]}
export function toPixels(image, settings) {
  if (settings.resize) {
    image = withoutEnds(image, settings.resize, settings.crop);
    const [width, height] = resizedTo(image, settings.resize);
    image = resize(image, width, height, settings.resample);
  }
  const crop = settings.crop ?? image;
  const size = crop.width * crop.height;
  const data = new Float32Array(3 * size);
  const read = centre(image, crop);
  for (let channel = 0; channel < 3; channel++) {
    const table = normalised(settings, channel);
    for (let place = 0; place < size; place++) data[channel * size + place] = table[read(place, channel)];
  }
  return { data, dims: [1, 3, crop.height, crop.width] };
}

// A very long image without most of what a crop cuts off: resized whole, a strip would take gigabytes.
export function withoutEnds(image, wanted, cut) {
  if (!cut || wanted.shortest_edge === undefined) return image;
  const { width, height } = image, tall = height > width;
  const short = Math.min(width, height), length = Math.max(width, height);
  const seen = tall ? cut.height : cut.width;
  let kept = Math.max(short, 8 * Math.ceil((seen * short) / wanted.shortest_edge)); // with plenty on both sides
  kept += (length - kept) % 2; // the same on both sides
  if (kept >= length) return image;
  const start = (length - kept) / 2;
  if (tall) return { width, height: kept, data: image.data.subarray(start * width * 4, (start + kept) * width * 4) };
  const data = new Uint8ClampedArray(kept * height * 4);
  for (let y = 0; y < height; y++) {
    const from = (y * width + start) * 4;
    data.set(image.data.subarray(from, from + kept * 4), y * kept * 4);
  }
  return { width: kept, height, data };
}

// [width, height] that an image gets: of its shorter side, or both.
export function resizedTo({ width, height }, wanted) {
  if (wanted.shortest_edge === undefined) return [wanted.width, wanted.height];
  const edge = wanted.shortest_edge;
  const other = Math.trunc((edge * Math.max(width, height)) / Math.min(width, height));
  return width <= height ? [edge, other] : [other, edge];
}

// A function that gives the value at a place of the centre of an image, black outside of it.
function centre(image, crop) {
  const left = offset(image.width, crop.width), top = offset(image.height, crop.height);
  return (place, channel) => {
    const x = (place % crop.width) + left, y = Math.trunc(place / crop.width) + top;
    const inside = x >= 0 && y >= 0 && x < image.width && y < image.height;
    return inside ? image.data[(y * image.width + x) * 4 + channel] : 0;
  };
}

// Where a crop begins; below 0 where it is larger than the image.
function offset(size, crop) {
  return crop > size ? -Math.floor((crop - size) / 2) : Math.floor((size - crop) / 2);
}

// What each of the values 0..255 of a channel becomes, in float32 as in Python.
function normalised({ mean, std, scale }, channel) {
  const { fround } = Math;
  const centred = fround(fround(mean[channel]) / fround(scale)), spread = fround(fround(std[channel]) / fround(scale));
  return Float32Array.from({ length: 256 }, (_, value) => fround(fround(value - centred) / spread));
}

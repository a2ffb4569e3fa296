// How a camera was held, from the EXIF of a file, and pictures turned as that says: browsers turn JPEG by themselves.

// bytes of a WebP file -> {orientation, place}: 1 to 8, and where the number stands; null where there is none.
export function webpOrientation(bytes) {
  const view = viewOf(bytes);
  if (bytes.length < 12 || text(bytes, 0) !== "RIFF" || text(bytes, 8) !== "WEBP") return null;
  for (let place = 12; place + 8 <= bytes.length; ) {
    const size = view.getUint32(place + 4, true);
    if (text(bytes, place) === "EXIF") return exifOrientation(bytes, place + 8, Math.min(place + 8 + size, bytes.length));
    place += 8 + size + (size % 2);
  }
  return null;
}

// The same of EXIF from `start` to `end`: a TIFF file's first directory, maybe behind "Exif" and two zeros.
export function exifOrientation(bytes, start, end) {
  if (text(bytes, start) === "Exif") start += 6;
  const view = viewOf(bytes.subarray(0, end)), order = text(bytes, start).slice(0, 2);
  if (end - start < 14 || !["II", "MM"].includes(order)) return null;
  const little = order === "II";
  const directory = start + view.getUint32(start + 4, little);
  if (directory + 2 > end) return null;
  const count = view.getUint16(directory, little);
  for (let place = directory + 2; place < directory + 2 + 12 * count && place + 12 <= end; place += 12) {
    if (view.getUint16(place, little) !== 0x0112 || view.getUint16(place + 2, little) !== 3) continue;
    const orientation = view.getUint16(place + 8, little);
    return orientation >= 1 && orientation <= 8 ? { orientation, place: place + (little ? 8 : 9) } : null;
  }
  return null;
}

// {width, height, data} of RGBA -> the same picture upright.
export function turned({ width, height, data }, orientation) {
  if (orientation === 1) return { width, height, data };
  const across = orientation >= 5; // rows become columns
  const [wide, high] = across ? [height, width] : [width, height];
  const from = new Uint32Array(data.buffer, data.byteOffset, width * height), to = new Uint32Array(width * height);
  const right = [2, 3, 7, 8], below = [3, 4, 6, 7]; // from which end a row of the file is read, and a column
  for (let y = 0; y < high; y++) {
    for (let x = 0; x < wide; x++) {
      const [column, row] = across ? [y, x] : [x, y];
      const left = right.includes(orientation) ? width - 1 - column : column;
      const top = below.includes(orientation) ? height - 1 - row : row;
      to[y * wide + x] = from[top * width + left];
    }
  }
  return { width: wide, height: high, data: new Uint8ClampedArray(to.buffer) };
}

function text(bytes, place) {
  return String.fromCharCode(...bytes.subarray(place, place + 4));
}

function viewOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

"""Peak memory that one image takes until it is the model's 224 x 224 pixels, at the limit of pixels or below.

python benchmarks/image_memory.py [--width 8000 --height 6250] [--output docs/results/image_memory.md]

Makes an image of each kind, a field of one colour, so that its file is small whatever its size, and opens each in a
process of its own with the image processor. What opening a small image of that kind took before is not counted.
"""

import argparse
import io
import json
import os
import platform
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
from pages import ROOT, build_parser, command, run_alone, table, write_page
from PIL import Image

ORIENTATION, RIGHT_TOP = 0x0112, 6  # EXIF: turned by a quarter


def turned(image, file):
    exif = Image.Exif()
    exif[ORIENTATION] = RIGHT_TOP
    image.save(file, "JPEG", exif=exif)


# kind -> how an image of a colour becomes a file.
KINDS = {
    "JPEG": lambda size, file: Image.new("RGB", size, "teal").save(file, "JPEG"),
    "JPEG that is turned": lambda size, file: turned(Image.new("RGB", size, "teal"), file),
    "PNG": lambda size, file: Image.new("RGB", size, "teal").save(file, "PNG"),
    "PNG with opacity": lambda size, file: Image.new("RGBA", size, (0, 128, 128, 90)).save(file, "PNG"),
    "PNG with a palette and transparency": lambda size, file: Image.new("P", size).save(file, "PNG", transparency=0),
    "PNG, 16 bits": lambda size, file: Image.new("I;16", size, 900).save(file, "PNG"),
    "TIFF, floating point": lambda size, file: Image.fromarray(np.zeros(size[::-1], np.float32)).save(
        file, "TIFF", compression="tiff_deflate"
    ),
}


def written(kind, size):
    file = io.BytesIO()
    KINDS[kind](size, file)
    return file.getvalue()


def measure(kind, path):
    """Opens an image in this process; prints the MiB that its peak is above the peak before."""
    sys.path.insert(0, str(ROOT))
    from processing import DualVQAImageProcessor

    processor = DualVQAImageProcessor()
    processor(images=written(kind, (64, 64)), return_tensors="pt")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pixels = processor(images=path, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 224, 224)
    print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--width", type=int, default=8000)
    parser.add_argument("--height", type=int, default=6250)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        return measure(*args.measure)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image")
        for kind in args.kinds:
            path.write_bytes(written(kind, (args.width, args.height)))
            found = run_alone("--measure", kind, path)
            lines.append([kind, f"{path.stat().st_size / 2**20:.2f}", f"{found:,.0f}"])
    million = args.width * args.height / 1e6
    size = f"{args.width} x {args.height} pixels, {million:,.1f} million"
    text = table(["image", "file, MiB", "peak memory, MiB"], lines)
    text += f"\n{size}; {os.cpu_count()} cores ({platform.machine()}).\n"
    print(text)
    if args.output:
        write_page(args.output, f"# Memory of one image\n\n```bash\n{command()}\n```\n\n{text}")


if __name__ == "__main__":
    main()

"""How fast the page answers in Chromium, and how near Python's answers: a picture, the first and the second question.

Each saved model is exported as a page with 8-bit weights and with float32, and asked in a browser of an empty profile.
"""

import json
import re
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from pages import ROOT, build_parser, command, table, write_page
from PIL import Image

sys.path.insert(0, str(ROOT))

from chromium import CHROMIUM, run
from measure import machine

from dualvqa.deployment.web_export import export_web
from dualvqa_light import LightPipeline

WIDTH, HEIGHT = 1024, 768
QUESTIONS = (
    *("what is in the picture?", "is there a circle?", "what color is the shape?", "is the heart enlarged?"),
    *("which organ is shown?", "is it red?", "does the image contain a triangle?", "what is abnormal in the picture?"),
    *(
        "is there a fracture on the left side?",
        "what shape is it?",
        "is this an x-ray?",
        "where is the lesion located?",
    ),
)
PAGE = """# Answering in the browser

**Found:** {said}

Written by

```bash
{command}
```

{machine}; {browser}, {threads} threads, onnxruntime-web on WebAssembly. A JPEG of {width} x {height} pixels
(seed 0), {count} questions, the first two not counted; medians, in brackets the smallest and the largest. A question
is timed from its text to its answers, a picture from its file to its embedding. Difference: the largest between a score
here and the light runtime's in Python, of the same files, over the five best answers.

{table}"""


def write_picture(path):
    """Smooth colours with noise: as large a file as a photo's."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, WIDTH * HEIGHT * 3).reshape(HEIGHT, WIDTH, 3)
    Image.fromarray((ramp + rng.integers(0, 55, ramp.shape)).astype(np.uint8)).save(path, quality=90)


def measure(folder, quantization):
    """What the scenario found of a saved model, its files' bytes and the largest difference to Python's scores."""
    with tempfile.TemporaryDirectory() as name:
        site = Path(name)
        export_web(folder, site, quantization=quantization)
        write_picture(site / "picture.jpg")
        (site / "questions.json").write_text(json.dumps(QUESTIONS))
        found = run(site, Path(__file__).parent / "browser_scenario.js", seconds=600)
        pipe = LightPipeline(site / "model")
        # One by one, as the page asks: activations of questions that are asked together are rounded together.
        expected = [pipe(image=str(site / "picture.jpg"), question=question, top_k=5) for question in QUESTIONS]
        files = sum(path.stat().st_size for path in (site / "model").iterdir())
    differences = []
    for row, best in zip(found["answers"], expected, strict=True):
        scores = {item.get("best_guess", item["answer"]): item["score"] for item in best}
        differences += [abs(one["score"] - scores.get(one["answer"], 0.0)) for one in row]
    return {**found, "bytes": files, "difference": max(differences)}


def milliseconds(values):
    return f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def in_words(name, found):
    """What a model with 8-bit weights showed, in a sentence."""
    second, picture = median(found["second"]), median(found["pictures"])
    return (
        f"with the int8 model of {name}, {found['bytes'] / 2**20:.1f} MiB to download, the second question about an "
        f"image is answered in {second:.0f} ms (the goal was 100), and a photo of {WIDTH} x {HEIGHT} is read in "
        f"{picture:.0f} ms; scores differ from Python's of the same files by {found['difference']:.1g} at most"
    )


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--run", nargs=2, action="append", required=True, metavar=("NAME", "FOLDER"))
    parser.add_argument("--output", required=True, help="page to write")
    args = parser.parse_args()
    if CHROMIUM is None:
        raise SystemExit("error: Chromium is not installed")
    rows, said, found = [], [], None
    for name, folder in args.run:
        for quantization in ("int8", None):
            found = measure(folder, quantization)
            said += [in_words(name, found)] if quantization else []
            times = [milliseconds(found[key]) for key in ("pictures", "first", "second")]
            loads = [f"{found[key] / 1000:.2f}" for key in ("load", "again")]
            weights, mebibytes = quantization or "float32", f"{found['bytes'] / 2**20:.1f}"
            rows.append([name, weights, mebibytes, *loads, *times, f"{found['difference']:.1e}"])
            print(*rows[-1], flush=True)
    head = ["model", "weights", "MiB", "s to load from this machine", "s to load anew", "ms for a picture"]
    head += ["ms for the first question", "ms for the second question", "difference"]
    browser = re.search(r"(Headless)?Chrom\w+/[\d.]+", found["browser"]).group().replace("/", " ")
    facts = {"machine": machine(), "browser": browser, "threads": found["threads"], "count": len(QUESTIONS)}
    facts |= {
        "said": f"{'; '.join(said)}.",
        "width": WIDTH,
        "height": HEIGHT,
        "command": command(),
        "table": table(head, rows),
    }
    write_page(args.output, PAGE.format(**facts))


if __name__ == "__main__":
    main()

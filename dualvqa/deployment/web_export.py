"""A saved model -> a static folder, a page that answers in the browser: dualvqa export --to web"""

import json
import logging
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from dualvqa.shipped import shipped
from dualvqa_light.folder import MANIFEST, file_hash, read_manifest
from dualvqa_light.image_loading_dualvqa import load_image
from dualvqa_light.questions import Questions

from .onnx_export import QUANTIZATIONS, export_onnx
from .onnx_weights import make_smaller
from .web_packages import fetched

logger = logging.getLogger(__name__)

NOT_SERVED = ("package.json", "package-lock.json", "__pycache__")
LARGEST_EXAMPLE = 1024  # pixels of the longer side
# Texts that a tokenizer in another language might take apart otherwise.
TRICKY = (
    "What's in the picture, e.g. a café?",
    "2 x-rays: l'œil?? (no)",
    "Ist das größer als ÄÖÜ?",
    "这是什么?",
    "don't 🙂 go",
)
# Reads {tokenizer, texts} and prints the ids of each text.
ENCODE = """
import { readFileSync } from "node:fs";
const { Tokenizer } = await import(process.argv[1]);
const { tokenizer, texts } = JSON.parse(readFileSync(0));
const read = new Tokenizer(tokenizer, {});
console.log(JSON.stringify(texts.map((text) => read.encode(text).ids)));
"""


def export_web(model, output_dir, quantization="int8", heads=None, examples=()):
    """Writes a page with a model in it, to be put on any web server, in any folder of it.

    Args:
        model: a saved folder.
        output_dir: folder for the page; `model/` in it is an exported folder.
        quantization, heads: see `export_onnx`.
        examples: dicts with `image`, a path, and `questions`, that the page offers.

    Raises:
        ValueError: see `export_onnx`; npm is missing, or a page can't read this model's images or questions.
    """
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"quantization must be of {', '.join(map(str, QUANTIZATIONS))}; found {quantization}")
    output_dir, page = Path(output_dir), shipped("web")
    packages = fetched(page)
    output_dir.mkdir(parents=True, exist_ok=True)
    shutil.copytree(page, output_dir, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*NOT_SERVED))
    shutil.copytree(packages, output_dir / "vendor", dirs_exist_ok=True)
    write_model(model, output_dir / "model", quantization, heads)
    check_readable(output_dir)
    write_json(output_dir / "examples.json", write_examples(output_dir, examples))
    write_json(output_dir / "files.json", {name: file_hash(output_dir / name) for name in page_files(output_dir)})
    logger.info("a page in %s; to see it: python -m http.server --directory %s", output_dir, output_dir)


def write_model(model, folder, quantization, heads):
    """What `export_onnx` writes, as far as a page reads it."""
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as whole:
        export_onnx(model, whole, heads=heads)
        for name in (MANIFEST, *read_manifest(whole)["files"]):
            shutil.move(Path(whole, name), folder / name)
    if quantization is not None:
        quantize(folder, quantization)


def quantize(folder, quantization):
    """Makes the weights of an exported folder smaller, as an export with this quantisation does."""
    manifest = read_manifest(folder)
    for path in sorted(folder.glob("*.onnx")):
        make_smaller(path, quantization)
        manifest["files"][path.name] = file_hash(path)
    write_json(folder / MANIFEST, {**manifest, "quantization": quantization})


def page_files(folder):
    """The names of all that the page is made of but the model."""
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    return [name for name in names if not name.startswith("model/") and name != "files.json"]


def write_json(path, found):
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_examples(folder, examples):
    """Puts pictures beside the page, each read as the model reads it, and says what is asked about them."""
    places = []
    for number, example in enumerate(examples):
        name = f"examples/{number}.png"
        image = load_image(example["image"])
        image.thumbnail((LARGEST_EXAMPLE, LARGEST_EXAMPLE), Image.Resampling.LANCZOS)
        (folder / "examples").mkdir(exist_ok=True)
        image.save(folder / name)
        places.append({"image": name, "questions": list(example["questions"])})
    return places


def check_readable(folder):
    """That the page reads images and questions as Python does.

    Raises:
        ValueError: the exported folder doesn't say how, or the page's tokenizer finds other tokens.
    """
    manifest = read_manifest(folder / "model")
    for name in ("image", "question"):
        if manifest.get(name) is None:
            raise ValueError(f"no page can answer: the exported format has no words for how the {name} is read")
    if shutil.which("node") is None:
        logger.warning("node is not installed, so it was not tried whether the page's tokenizer finds Python's tokens")
        return
    questions = Questions(folder / "model", {**manifest["question"], "max_tokens": None})
    tokenizer = folder / "model" / manifest["question"]["tokenizer"]
    for text, expected, found in zip(TRICKY, questions.encode(TRICKY), page_tokens(folder, tokenizer)):
        if list(expected) != found:
            raise ValueError(
                f"the page can't read this model's questions: its tokenizer makes {found} of {text!r}, and Python's "
                f"{list(expected)}; answer from Python instead"
            )


def page_tokens(folder, tokenizer):
    """The ids of each of the tricky texts, by the page's own tokenizer under node.

    Raises:
        ValueError: it can't read the file.
    """
    code = (folder / "vendor/tokenizers/tokenizers.min.mjs").resolve().as_uri()
    given = json.dumps({"tokenizer": json.loads(tokenizer.read_text(encoding="utf-8")), "texts": TRICKY})
    command = [shutil.which("node"), "--input-type=module", "--eval", ENCODE, code]
    done = subprocess.run(command, input=given, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise ValueError(f"the page can't read this model's tokenizer: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)

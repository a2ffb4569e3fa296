"""A saved model -> the files that transformers.js looks for: dualvqa export --to transformers.js"""

import json
import logging
import shutil
import tempfile
from pathlib import Path

from dualvqa_light.folder import MANIFEST, file_hash

from .onnx_export import export_onnx
from .onnx_weights import make_smaller

logger = logging.getLogger(__name__)

PREPROCESSOR = "preprocessor_config.json"


def export_transformers_js(model, output_dir, heads=None):
    """Writes the whole graph in float32 and with 8-bit weights beside configuration, tokenizer and `onnx.json`.

    transformers.js has no class of this model: its `AutoModel` runs the graph, whose inputs and outputs are those of
    `model.onnx` in the exported folder. It gives logits; `onnx.json` says how they become answers.

    Args:
        model: a saved folder.
        output_dir: folder to write into.
        heads: see `export_onnx`.
    """
    output_dir = Path(output_dir)
    (output_dir / "onnx").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir) as folder:
        export_onnx(model, folder, parts=("model",), heads=heads)
        manifest = json.loads(Path(folder, MANIFEST).read_text(encoding="utf-8"))
        whole, quantized = output_dir / "onnx/model.onnx", output_dir / "onnx/model_quantized.onnx"
        shutil.move(Path(folder, "model.onnx"), whole)
        shutil.copytree(folder, output_dir, dirs_exist_ok=True)
    shutil.copy(whole, quantized)
    make_smaller(quantized, "int8")
    del manifest["files"]["model.onnx"]
    manifest["files"] |= {f"onnx/{path.name}": file_hash(path) for path in (whole, quantized)}
    (output_dir / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_preprocessor(output_dir)
    logger.info("written to %s for transformers.js: onnx/model.onnx, onnx/model_quantized.onnx", output_dir)


def write_preprocessor(folder):
    """transformers.js reads the image processor from a file of its own."""
    settings = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))["image_processor"]
    (folder / PREPROCESSOR).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

"""A saved model -> the folder of a Gradio Space: dualvqa export --to space"""

import importlib.metadata
import logging
import shutil
from pathlib import Path

import yaml

from dualvqa.shipped import shipped
from dualvqa.training.building import load_model

from .older_code import tell_other_code
from .web_export import write_examples, write_json

logger = logging.getLogger(__name__)

GRADIO = "6.31.0"  # where none is installed
# The map of what spoke for an answer needs gradients, so a Space answers with torch and not with the light runtime.
REQUIREMENTS = ("torch", "torchvision", "transformers")
SOURCE = "dualvqa @ git+https://github.com/dualvqa/dualvqa"


def export_space(model, output_dir, examples=(), title=None):
    """Writes a folder to push to a Space as it is.

    Args:
        model: a saved folder, which is copied, or its id on the Hub, which the Space then loads.
        output_dir: the folder.
        examples: dicts with `image`, a path, and `questions`, that the page offers.
        title: of the page; the model's name when left out.

    Raises:
        ValueError: there is no model.
    """
    output_dir, local = Path(output_dir), Path(model).is_dir()
    tell_other_code(model)
    found, processor = load_model(model)
    output_dir.mkdir(parents=True, exist_ok=True)
    if local:
        found.save_pretrained(output_dir / "model")
        processor.save_pretrained(output_dir / "model")
        (output_dir / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
    shutil.copy(shipped("space") / "app.py", output_dir / "app.py")
    title = title or f"Ask {Path(model).resolve().name if local else model}"
    settings = {"title": title, "model": "model" if local else str(model)}
    write_json(output_dir / "space.json", {**settings, "examples": write_examples(output_dir, examples)})
    (output_dir / "requirements.txt").write_text("\n".join([*map(installed, REQUIREMENTS), SOURCE, ""]))
    license_name = (found.config.model_card or {}).get("license")
    (output_dir / "README.md").write_text(readme(title, None if local else str(model), license_name), encoding="utf-8")
    logger.info("a Space in %s; to try it: pip install gradio, then python %s/app.py", output_dir, output_dir)


def installed(name):
    """A requirement of the version that is here."""
    return f"{name}=={importlib.metadata.version(name).partition('+')[0]}"


def readme(title, model, license_name):
    """README.md with what the Hub reads of a Space."""
    try:
        gradio = importlib.metadata.version("gradio")
    except importlib.metadata.PackageNotFoundError:
        gradio = GRADIO
    front = {"title": title, "emoji": "🔎", "colorFrom": "blue", "colorTo": "gray", "sdk": "gradio"}
    front |= {"sdk_version": gradio, "app_file": "app.py", "pinned": False}
    front |= {"license": license_name} if license_name else {}
    front |= {"models": [model]} if model else {}
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n\n# {title}\n\nVisual question answering with a DualVQA model: `app.py` is the page.\n"

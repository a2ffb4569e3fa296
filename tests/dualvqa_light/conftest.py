import copy
import shutil

import numpy as np
import pytest
import torch
from helpers import PIXELS, QUESTIONS
from PIL import Image

from dualvqa.deployment.evidence_export import lines_of, write_evidence
from dualvqa.deployment.onnx_export import export_onnx
from modeling_dualvqa import DualVQAPipeline

CALIBRATION = {
    "temperatures": {"binary": 0.5, "open_ended": 2.0, "question_type": 1.5},
    "abstention": {"threshold": 0.3},
    "familiarity": {},
}


@pytest.fixture(scope="session")
def exported(tmp_path_factory, taught_model, new_processor, quick_exports):
    """A folder that was exported from a calibrated model with a memory, and the PyTorch pipeline of the same model."""
    processor = new_processor()
    processor.calibration = copy.deepcopy(CALIBRATION)
    processor.answer_rules = {"yes_answers": ["ja"], "no_answers": ["nein"]}
    model, processor.memory_answers = copy.deepcopy(taught_model)
    with torch.no_grad():
        output = model(**processor(text=QUESTIONS, return_tensors="pt"), pixel_values=PIXELS)
    for tower in ("image", "question"):  # half of them are unfamiliar
        processor.calibration["familiarity"][tower] = output[f"{tower}_novelty"].quantile(0.5).item()
    folder = tmp_path_factory.mktemp("exported")
    export_onnx(copy.deepcopy(model), folder, processor)
    return folder, DualVQAPipeline(model, processor)


@pytest.fixture(scope="session")
def with_texts(exported, tmp_path_factory):
    """The same folder with the texts of the memory's examples."""
    folder = shutil.copytree(exported[0], tmp_path_factory.mktemp("texts") / "exported")
    write_evidence(lines_of(exported[1].model.memory), folder)
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Files of several kinds: a photo that is turned, one with an alpha channel, grey of 16 bits, a palette."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    ramp = np.linspace(0, 200, 90 * 70 * 3).reshape(70, 90, 3) + rng.integers(0, 55, (70, 90, 3))
    photo = Image.fromarray(ramp.astype(np.uint8))
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(folder / "turned.jpg", exif=exif)
    photo.convert("RGBA").rotate(30).save(folder / "clear.png")
    photo.quantize(16).save(folder / "palette.gif")
    Image.fromarray((ramp[..., 0] * 200).astype(np.uint16)).save(folder / "deep.png")
    return [str(folder / name) for name in ("turned.jpg", "clear.png", "palette.gif", "deep.png")]

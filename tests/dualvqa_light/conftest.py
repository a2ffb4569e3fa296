import copy

import numpy as np
import pytest
import torch
from helpers import COLOR, QUESTIONS, RED
from PIL import Image

from dualvqa.deployment.onnx_export import export_onnx
from modeling_dualvqa import DualVQAPipeline

CALIBRATION = {
    "temperatures": {"binary": 0.5, "open_ended": 2.0, "question_type": 1.5},
    "abstention": {"threshold": 0.3},
    "familiarity": {},
}


def share_out(model, processor):
    """Has the router give half of the questions to each head, and half of those answers be unfamiliar."""
    with torch.no_grad():
        output = model(**processor(text=QUESTIONS, return_tensors="pt"), pixel_values=torch.randn(4, 3, 32, 32))
        binary, open_ended = output.question_type_logits.T
        model.question_type_head.bias[1] -= (open_ended - binary).quantile(0.5)
    for name in ("binary", "open_ended"):
        energies = -output[f"{name}_logits"].logsumexp(dim=-1)
        processor.calibration["familiarity"][f"{name}_energy"] = energies.quantile(0.5).item()


@pytest.fixture(scope="session")
def exported(tmp_path_factory, tiny_model, new_processor, quick_exports):
    """A folder that was exported from a calibrated model with a memory, and the PyTorch pipeline of the same model."""
    torch.manual_seed(0)
    processor = new_processor()
    processor.calibration = copy.deepcopy(CALIBRATION)
    processor.answer_rules = {"yes_answers": ["ja"], "no_answers": ["nein"]}
    model = tiny_model(fusion_type="cross_attention")
    pipe = DualVQAPipeline(model, processor)
    share_out(model, processor)
    images = [Image.new("RGB", (40, 30), color) for color in ("red", "green", "blue")]
    pairs = [(image, question) for image in images for question in (COLOR, RED)]
    pipe.memory.build(*zip(*pairs), ["red", "ja", "green", "nein", "blue", "nein"])
    pipe.memory.add(images[:1], ["what is there?"], ["mauve"])
    folder = tmp_path_factory.mktemp("exported")
    export_onnx(copy.deepcopy(pipe.model), folder, processor)
    return folder, pipe


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

import copy
import json
import shutil
import subprocess

import pytest
import torch
from helpers import PIXELS, QUESTIONS
from picture_files import photo, write_pictures

from benchmarks.chromium import CHROMIUM
from dualvqa.deployment.web_export import export_web, quantize
from dualvqa.deployment.web_packages import fetched
from dualvqa.shipped import shipped

TEMPERATURES = {"binary": 0.5, "open_ended": 2.0, "question_type": 1.5}
ASKED = [*QUESTIONS, "Qu'est-ce que c'est, 2 x RED?", "is it red? " * 30]


@pytest.fixture(scope="session")
def saved(tmp_path_factory, balanced_model, new_processor):
    """A saved model whose router gives questions to both heads, and some of whose answers are unfamiliar."""
    processor = new_processor()
    processor.tokenizer.model_max_length = 16
    model = copy.deepcopy(balanced_model)
    with torch.no_grad():
        read = processor(text=QUESTIONS, return_tensors="pt", padding=True)
        output = model(**read, pixel_values=PIXELS)
    processor.calibration = {
        "temperatures": TEMPERATURES,
        "abstention": {"threshold": 0.3},
        "familiarity": {"question": output.question_novelty.quantile(0.5).item()},
    }
    folder = tmp_path_factory.mktemp("saved")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sites(tmp_path_factory, saved, quick_exports):
    """Quantisation -> a page with the model, and beside it pictures and questions for scenarios."""
    if CHROMIUM is None:
        pytest.skip("the page is tried in Chromium: not installed")
    try:
        fetched(shipped("web"))
    except (ValueError, subprocess.SubprocessError) as error:
        pytest.skip(f"the page's packages could not be fetched: {error}")
    folder = tmp_path_factory.mktemp("sites")
    photo(120, 80).save(folder / "example.jpg")
    examples = [{"image": folder / "example.jpg", "questions": QUESTIONS[:2]}]
    plain, int8 = folder / "plain", folder / "int8"
    export_web(saved, plain, quantization=None, examples=examples)
    names = write_pictures(plain / "pictures")
    (plain / "pictures.json").write_text(json.dumps(names))
    (plain / "questions.json").write_text(json.dumps(ASKED))
    shutil.copytree(plain, int8)
    quantize(int8 / "model", "int8")  # as an export does, without tracing the model a second time
    return {None: plain, "int8": int8}


@pytest.fixture
def site(sites, tmp_path):
    """One of them to be changed."""
    return shutil.copytree(sites[None], tmp_path / "site")

"""Constants and small functions that several test modules share; fixtures are in shared_fixtures.py."""

import http.server
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import mobilenetv3
from towers import vision_config

from dualvqa.trust.familiarity import fit_towers
from modeling_dualvqa import DualVQAForQuestionAnswering, encoders_dualvqa
from processing import DataArguments

TESTS = Path(__file__).parent
ROOT = TESTS.parent

ANSWERS = ["red", "green", "blue"]
QUESTIONS = ["what color is it?", "is it red?", "is there a blue square in the picture?", "which color has the shape?"]
COLOR, RED = QUESTIONS[:2]
PIXELS = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
TEXT = {"model_type": "distilbert", "dim": 16, "hidden_dim": 32, "n_layers": 1, "n_heads": 2}
# The vision tower of tests that ask something of MobileNet; the others have two blocks of a ResNet, in half the time.
MOBILENET = {"architecture": "mobilenet_v3_small", "image_size": 32, "batch_norm_momentum": 1.0}
# The configuration of the models that runs train: a tower of two blocks takes half the time of MobileNet.
TINY = {
    "vision_config": vision_config("resnet"),
    "fusion_hidden_size": 16,
    "fusion_num_attention_heads": 2,
    "text_config": {**TEXT, "max_position_embeddings": 64},
}
# The quick part has that of the presets.
FUSIONS = [pytest.param("attention", marks=pytest.mark.slow), "cross_attention"]
LOGITS = ("binary_logits", "open_ended_logits", "question_type_logits")

# What a saved folder holds: the code, by its name, and the other files.
SOURCES = {
    path.name: path for folder in ("modeling_dualvqa", "processing") for path in (ROOT / folder).glob("*_dualvqa.py")
}
OTHER_FILES = {
    "README.md",
    "config.json",
    "handler.py",
    "model.safetensors",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return os.fspath(path)


def write_images(folder):
    """Eight images of one colour each, and train.jsonl with two questions about each; gives the folder."""
    rows = []
    for number in range(8):
        color = ANSWERS[number % 3]
        name = f"{number}.png"
        Image.new("RGB", (40, 30), color).resize((40 + number, 30)).save(folder / name)
        rows.append({"image": name, "question": "what color is it?", "answer": color, "qid": 2 * number})
        rows.append({"image": name, "question": "is it red?", "answer": "yes" if color == "red" else "No", "qid": -1})
    write_jsonl(folder / "train.jsonl", rows)
    return folder


def write_many(folder):
    """Two questions about each of 40 images, of which many are answered at random, and a part to test on."""
    rng, rows = np.random.default_rng(0), []
    for number in range(60):
        color = ANSWERS[number % 3]
        Image.new("RGB", (24, 24), color).resize((24 + number, 24)).save(folder / f"many_{number}.png")
        for question in ("is it red?", "is there a red shape?"):
            answer = ("no", "yes")[rng.integers(2)] if number % 2 else ("yes" if color == "red" else "no")
            rows.append({"image": f"many_{number}.png", "question": question, "answer": answer})
        rows.append({"image": f"many_{number}.png", "question": "what color is it?", "answer": color})
    write_jsonl(folder / "test.jsonl", rows[120:])
    return write_jsonl(folder / "many.jsonl", rows[:120])


def short_run(folder):
    """The settings of a run of two steps on those images."""
    return {
        "train_file": str(folder / "train.jsonl"),
        "image_dir": str(folder),
        "output_dir": str(folder / "out"),
        "image_size": 32,
        "validation_fraction": 0.25,
        "max_steps": 2,
        "per_device_train_batch_size": 8,
        "learning_rate": "1e-3",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "do_train": True,
        "config": TINY,
    }


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def data_arguments(folder, **fields):
    defaults = {"train_file": str(folder / "train.jsonl"), "image_dir": str(folder), "validation_fraction": 0.0}
    return DataArguments(**{**defaults, **fields})


def load(folder, **options):
    return DualVQAForQuestionAnswering.from_pretrained(folder, **options)


def assert_same_logits(one, other, **tolerance):
    for name in LOGITS:
        torch.testing.assert_close(one[name], other[name], **tolerance)


def teach(pipe):
    """Has a model remember six answers about images of one colour, and one that was taught; gives images, questions."""
    images = [Image.new("RGB", (40, 30), color) for color in ANSWERS]
    pairs = [(image, question) for image in images for question in (COLOR, RED)]
    pipe.memory.build(*zip(*pairs), ["red", "yes", "green", "no", "blue", "no"])
    pipe.memory.add(images[:1], ["what is there?"], ["mauve"])
    return images, [COLOR, RED, "what is there?"]


def same_answers(found, expected):
    """Whether two results of a pipeline are alike up to rounding: nested lists of dicts."""
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same_answers, found, expected))
    return {**found, "score": pytest.approx(expected["score"], abs=1e-5)} == expected


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def small_mobilenet(monkeypatch):
    """MobileNetV3-Small has its first five of eleven blocks, which are of every kind that it has."""
    whole = mobilenetv3._mobilenet_v3_conf
    monkeypatch.setattr(mobilenetv3, "_mobilenet_v3_conf", lambda *args, **fields: (whole(*args, **fields)[0][:5], 64))
    monkeypatch.setattr(encoders_dualvqa, "CHANNELS", {})


def familiar(model):
    """Gives a model the familiarity of random states of its towers' widths; gives the model."""
    generator = torch.Generator().manual_seed(0)
    widths = {"image": model.vision_encoder.hidden_size, "question": model.text_encoder.hidden_size}
    own = {tower: torch.randn(60, width, generator=generator) for tower, width in widths.items()}
    others = {tower: [1 + states[:5]] for tower, states in own.items()}
    model.set_familiarity(fit_towers(own, others, own, dict.fromkeys(own, False))[0])
    return model

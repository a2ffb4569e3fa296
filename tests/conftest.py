"""The tiny model, tokenizer, pictures and data file that the tests share. Nothing is downloaded."""

import json
import os

import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image

from modeling_dualvqa import DualVQAConfig, DualVQAForQuestionAnswering
from processing import DualVQAImageProcessor, DualVQAProcessor, train_tokenizer

# The same few examples every time; `--hypothesis-profile long` tries many others.
CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("quick", max_examples=50, deadline=None, derandomize=True, suppress_health_check=CHECKS)
settings.register_profile("long", max_examples=2000, deadline=None, suppress_health_check=CHECKS)
settings.load_profile("quick")

ANSWERS = ["red", "green", "blue"]
QUESTIONS = ["what color is it?", "is it red?", "is there a blue square in the picture?", "which color has the shape?"]
TEXT = {"model_type": "distilbert", "dim": 16, "hidden_dim": 32, "n_layers": 1, "n_heads": 2}
VISION = {"image_size": 32, "batch_norm_momentum": 1.0}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer(QUESTIONS, vocab_size=120, model_max_length=16)


@pytest.fixture
def processor(tokenizer):
    image_processor = DualVQAImageProcessor(size={"height": 32, "width": 32})
    return DualVQAProcessor(image_processor, tokenizer, ANSWERS)


@pytest.fixture
def tiny_config(tokenizer):
    """Builds a tiny configuration with the fields given."""

    def build(**fields):
        text = {**TEXT, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
        defaults = {
            "vision_config": dict(VISION),
            "text_config": text,
            "num_answers": len(ANSWERS),
            "fusion_hidden_size": 16,
            "fusion_num_attention_heads": 2,
        }
        return DualVQAConfig(**{**defaults, **fields})

    return build


@pytest.fixture
def tiny_model(tiny_config):
    """Builds a tiny model, in evaluation mode, with the configuration fields given.

    Its batch-norm statistics are those of some images: with the fresh ones, mean 0 and variance 1, hardly anything of
    an image would reach the far end of the tower.
    """

    def build(**fields):
        model = DualVQAForQuestionAnswering(tiny_config(**fields)).train()
        model.vision_encoder(torch.randn(8, 3, 64, 64))
        return model.eval()

    return build


@pytest.fixture
def batch(tokenizer):
    """Four questions about three images: yes/no, open-ended, yes/no, open-ended outside the vocabulary."""
    encoded = tokenizer(QUESTIONS, padding=True, return_tensors="pt", return_token_type_ids=False)
    return {
        **encoded,
        "pixel_values": torch.randn(3, 3, 32, 32),
        "image_index": torch.tensor([0, 1, 1, 2]),
    }


@pytest.fixture
def labels():
    return {
        "binary_labels": torch.tensor([-100, 1, 0, -100]),
        "open_ended_labels": torch.tensor([2, -100, -100, -100]),
        "question_type_labels": torch.tensor([1, 0, 0, 1]),
    }


@pytest.fixture
def picture_folder(tmp_path):
    """Eight pictures of one colour each, and train.jsonl with two questions about each; gives the folder."""
    rows = []
    for number in range(8):
        color = ANSWERS[number % 3]
        name = f"{number}.png"
        Image.new("RGB", (40, 30), color).resize((40 + number, 30)).save(tmp_path / name)
        rows.append({"image": name, "question": "what color is it?", "answer": color, "qid": 2 * number})
        rows.append({"image": name, "question": "is it red?", "answer": "yes" if color == "red" else "No", "qid": -1})
    write_jsonl(tmp_path / "train.jsonl", rows)
    return tmp_path


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return os.fspath(path)

"""Fixtures that the tests share: a tiny model, its tokenizer, images, a data file, a recipe. Nothing is downloaded."""

import copy
import functools
import gc
import os
import shutil
import tempfile

# The code of saved folders is copied there to be imported: tests that run at once would write the same files.
MODULES = os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="modules-")

import accelerate
import datasets
import pytest
import torch
import yaml
from helpers import (
    ANSWERS,
    PIXELS,
    QUESTIONS,
    TEXT,
    TINY,
    familiar,
    short_run,
    teach,
    write_images,
    write_jsonl,
    write_many,
)
from hypothesis import HealthCheck, settings
from processes import begin_server
from towers import vision_config
from transformers import conversion_mapping

from dualvqa.reporting import plots
from dualvqa.trust import familiarity_fitting
from modeling_dualvqa import DualVQAConfig, DualVQAForQuestionAnswering, DualVQAPipeline, encoders_dualvqa
from processing import DualVQAImageProcessor, DualVQAProcessor, train_tokenizer

# The same few examples every time; `--hypothesis-profile long` tries many others.
CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("quick", max_examples=50, deadline=None, derandomize=True, suppress_health_check=CHECKS)
settings.register_profile("long", max_examples=2000, deadline=None, suppress_health_check=CHECKS)
settings.load_profile("quick")
torch.set_num_threads(1)
PANEL = plots.panel
datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0.1  # from 5 s after every pass over a stream, for processes that end


def pytest_configure():
    encoders_dualvqa.infer_width = known_widths(encoders_dualvqa.infer_width)
    familiarity_fitting.foreign_images = functools.cache(familiarity_fitting.foreign_images)
    plots.panel = lambda *args: "<svg/>"  # most of what a report takes; `drawn` has them drawn
    # Asked for at every step, and looked for in all folders of sys.path each time.
    accelerate.utils.other.is_deepspeed_available = functools.cache(accelerate.utils.other.is_deepspeed_available)
    do_once()
    begin_server("whole", ["dualvqa.run.main"])


def do_once():
    """What the first model that is built and loaded takes besides: the forks have it from here."""
    DualVQAForQuestionAnswering(DualVQAConfig(**TINY))
    conversion_mapping.get_checkpoint_conversion_mapping("distilbert")


def known_widths(infer_width):
    """`infer_width` with what it found for a configuration: its forward pass takes a third of building a tiny model."""
    found = {}

    def known(model, config):
        key = type(model), config.to_json_string(use_diff=False)
        if key not in found:
            found[key] = infer_width(model, config)
        return found[key]

    return known


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Each process begins with its share of the slow tests: what is left at the end, and goes to and fro, is quick."""
    processes = getattr(config, "workerinput", {"workercount": 1})["workercount"]
    kinds = [[item for item in items if (item.get_closest_marker("slow") is None) == quick] for quick in (False, True)]
    shares = [
        kind[len(kind) * n // processes : len(kind) * (n + 1) // processes] for n in range(processes) for kind in kinds
    ]
    items[:] = [item for share in shares for item in share]


def pytest_collection_finish():
    """Half a million objects of imported libraries take 0.4 s to look through, and every training asks for that."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_unconfigure():
    gc.unfreeze()
    shutil.rmtree(MODULES, ignore_errors=True)


@pytest.fixture(autouse=True)
def seed():
    torch.default_generator.manual_seed(0)  # torch.manual_seed asks for other devices' generators: 0.4 ms each time


@pytest.fixture(scope="module")
def drawn():
    """Has the plots of a module's reports drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "panel", PANEL)
        yield


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer(QUESTIONS, vocab_size=120, model_max_length=16)


@pytest.fixture(scope="session")
def new_processor(tokenizer):
    """Builds a processor of images of 32x32 pixels."""
    return lambda: DualVQAProcessor(DualVQAImageProcessor(size={"height": 32, "width": 32}), tokenizer, ANSWERS)


@pytest.fixture
def processor(new_processor):
    return new_processor()


@pytest.fixture(scope="session")
def tiny_config(tokenizer):
    """Builds a tiny configuration with the fields given."""

    def build(**fields):
        text = {**TEXT, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
        defaults = {
            "vision_config": vision_config("resnet"),
            "text_config": text,
            "num_answers": len(ANSWERS),
            "fusion_hidden_size": 16,
            "fusion_num_attention_heads": 2,
        }
        return DualVQAConfig(**{**defaults, **fields})

    return build


@pytest.fixture(scope="session")
def tiny_model(tiny_config):
    """Builds a tiny model, in evaluation mode, with the configuration fields given.

    Its batch-norm statistics are those of some images: with the fresh ones, mean 0 and variance 1, hardly anything of
    an image would reach the far end of the tower.
    """

    def build(**fields):
        model = DualVQAForQuestionAnswering(tiny_config(**fields)).train()
        # The same whatever the model has besides: its tower is exported once.
        model.vision_encoder(torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
        return model.eval()

    return build


@pytest.fixture(scope="session")
def balanced_model(tiny_model, new_processor):
    """A model of token and grid states whose router gives half of the questions to each head; it is read only.

    It has a familiarity, as all have whose parts are exported: the same part is exported once.
    """
    torch.manual_seed(0)
    model, read = tiny_model(fusion_type="cross_attention"), new_processor()(text=QUESTIONS, return_tensors="pt")
    with torch.no_grad():
        scores = model(**read, pixel_values=PIXELS).question_type_logits
        model.question_type_head.bias[1] -= (scores[:, 1] - scores[:, 0]).quantile(0.5)
    return familiar(model)


@pytest.fixture(scope="session")
def taught_model(balanced_model, new_processor):
    """The same with a memory of which an answer was taught, and the answers of the memory; it is read only."""
    pipe = DualVQAPipeline(copy.deepcopy(balanced_model), new_processor())
    teach(pipe)
    return pipe.model, pipe.processor.memory_answers


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


@pytest.fixture(scope="session")
def quick_exports(tmp_path_factory):
    """The same part is exported to ONNX once by all processes; torch's operators are read once: it takes seconds."""
    from known_exports import known_again
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    from dualvqa.deployment import onnx_export

    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        patch.setattr(torch.fx.config, "do_not_emit_stack_traces", True)  # of every node, for an exporter's errors
        patch.setattr(onnx_export, "export_part", known_again(onnx_export.export_part, folder))
        yield


@pytest.fixture
def image_folder(tmp_path):
    """Eight images of one colour each, and train.jsonl with two questions about each; gives the folder."""
    return write_images(tmp_path)


@pytest.fixture
def recipe(image_folder, tmp_path):
    """A recipe that trains for two steps on the images, and its output folder."""
    path = tmp_path / "recipe.yaml"

    def write(**changes):
        path.write_text(yaml.safe_dump({**short_run(image_folder), **changes}))
        return str(path)

    return write


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """The output folder of a run of that recipe; it is read only."""
    from dualvqa.run import main as run_vqa

    folder = write_images(tmp_path_factory.mktemp("trained"))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(short_run(folder)))
    run_vqa.main([str(folder / "recipe.yaml")])
    return folder / "out"


@pytest.fixture
def trained(trained_run, tmp_path):
    """A copy of it that may be written into, where the recipe writes too."""
    return shutil.copytree(trained_run, tmp_path / "out")


@pytest.fixture
def test_file(image_folder):
    """Six questions without answers, with fields of their own, one of them named as a prediction's."""
    rows = [
        {
            "image": f"{n}.png",
            "question": "is it red?" if n % 2 else "what color is it?",
            "qid": n,
            "question_type": "X",
        }
        for n in (5, 3, 4, 3, 0, 1)
    ]
    return write_jsonl(image_folder / "test.jsonl", rows)


@pytest.fixture
def many(image_folder):
    """Two questions about each of 40 images, of which many are answered at random, and a part to test on."""
    return write_many(image_folder)


@pytest.fixture
def rows(tokenizer):
    """32 questions about 8 images, the types unevenly spread: no yes/no question in the first eight, few later."""
    ids = torch.randint(5, len(tokenizer), (32, 6))
    binary = torch.full((32,), -100)
    binary[[9, 10, 11, 12, 13, 14, 15, 31]] = torch.tensor([0, 1, 1, 1, 0, 1, 1, 0])
    open_ended = torch.where(binary == -100, torch.arange(32) % 3, -100)
    images = torch.randn(8, 3, 32, 32)
    return [
        {
            "input_ids": ids[row],
            "attention_mask": torch.ones_like(ids[row]),
            "pixel_values": images[row // 4],
            "binary_labels": binary[row],
            "open_ended_labels": open_ended[row],
            "question_type_labels": (binary[row] == -100).long(),
        }
        for row in range(32)
    ]

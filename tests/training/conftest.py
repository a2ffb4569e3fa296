import shutil

import pytest
import yaml
from helpers import TINY, write_pictures

from dualvqa.run import main as run_vqa


@pytest.fixture
def settings(picture_folder):
    return long_run(picture_folder)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """The folder of a run with `settings` that was not interrupted; it is read only."""
    folder = write_pictures(tmp_path_factory.mktemp("finished"))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(long_run(folder)))
    run_vqa.main([str(folder / "recipe.yaml"), "--output_dir", str(folder / "out")])
    return folder / "out"


@pytest.fixture
def whole(finished_run, tmp_path):
    """A copy of it that may be written into."""
    return shutil.copytree(finished_run, tmp_path / "whole")


def long_run(picture_folder):
    """Twelve steps, three an epoch, with all that draws random numbers: order, augmentation, dropout."""
    return {
        "train_file": str(picture_folder / "train.jsonl"),
        "image_dir": str(picture_folder),
        "image_size": 64,
        "validation_fraction": 0.25,
        "num_train_epochs": 4,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "questions_per_image": 2,
        "color_jitter": 0.5,
        "horizontal_flip": 0.5,
        "learning_rate": "1e-3",
        "lr_scheduler_type": "cosine",
        "task_weighting": "uncertainty",
        "logging_steps": 5,
        "save_steps": 2,
        "eval_strategy": "epoch",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "do_train": True,
        "config": TINY,
    }

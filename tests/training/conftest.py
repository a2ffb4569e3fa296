import pytest
from helpers import TINY


@pytest.fixture
def settings(picture_folder):
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

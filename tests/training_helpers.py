"""What tests of training share: its arguments, the gradients of a step, runs in processes of their own."""

import json
import signal

import killed_run
import torch
from helpers import TINY
from processes import forked
from safetensors.torch import load_file

from dualvqa.trainer import DualVQATrainer
from dualvqa.training.arguments import DualVQATrainingArguments

ROWS = 32  # those of the fixture `rows`
TIMES = ("runtime", "per_second", "preparation_time", "total_flos")


def training_arguments(folder, **fields):
    defaults = {"output_dir": folder, "report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no"}
    return DualVQATrainingArguments(**{**defaults, **fields})


class InOrder(DualVQATrainer):
    """Keeps the gradient of the first step, and the rows in their order."""

    def _get_train_sampler(self, train_dataset=None):
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def _clip_grad_norm(self, model):
        self.gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        return super()._clip_grad_norm(model)


def first_gradients(model, rows, folder, micro_batches):
    training = training_arguments(
        folder,
        per_device_train_batch_size=ROWS // micro_batches,
        gradient_accumulation_steps=micro_batches,
        max_steps=1,
        logging_steps=1,
        max_grad_norm=1.0,
    )
    trainer = InOrder(model=model, args=training, train_dataset=rows)
    trainer.train()
    return trainer.gradients, trainer.state.log_history[0]


def start(function, processes, *arguments):
    """Calls a function in processes of their own."""
    ended = forked(function, *arguments, processes=processes)
    assert ended.code == 0, ended.output


def killed(kind, step, arguments):
    """Starts a run in a process that is killed."""
    ended = forked(killed_run.main, kind, step, arguments)
    assert ended.code == -signal.SIGKILL, ended.output


def log_of(folder):
    """A run's log without what a clock says."""
    entries = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [{key: entry[key] for key in entry if not key.endswith(TIMES)} for entry in entries]


def assert_same_run(one, other):
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert first.keys() == second.keys()
    difference = max((first[name].double() - second[name].double()).abs().max().item() for name in first)
    print(f"largest difference of parameters {difference:.1e}")
    assert difference == 0
    assert log_of(one) == log_of(other)
    losses = [entry["loss"] for entry in log_of(one) if "loss" in entry]
    assert len(losses) == 2 and len(log_of(one)) == 7  # two of training, four evaluations, the end


def long_run(image_folder):
    """Twelve steps, three an epoch, with all that draws random numbers: order, augmentation, dropout."""
    return {
        "train_file": str(image_folder / "train.jsonl"),
        "image_dir": str(image_folder),
        "image_size": 32,
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

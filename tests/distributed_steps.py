"""Trains for ten steps, once for each way of weighing the heads, and writes what came of it: what
test_distributed.py starts, alone or several times, and once with a launcher:

accelerate launch distributed_steps.py BATCH_SIZE ACCUMULATION_STEPS OUTPUT
"""

import os
import sys

import torch
from accelerate import PartialState
from towers import vision_config
from transformers import TrainerCallback

from dualvqa.trainer import DualVQATrainer
from dualvqa.training.arguments import DualVQATrainingArguments
from modeling_dualvqa import DualVQAConfig, DualVQAForQuestionAnswering

STEPS, ROWS, TOKENS, ANSWERS = 10, 157, 6, 5  # two epochs, whose last steps have 29 rows
WEIGHTINGS = ("fixed", "uncertainty", "mgda")
LOGGED = ("loss", "binary_loss", "open_ended_loss", "binary_weight", "open_ended_weight", "learning_rate")
STILL = {"dropout": 0.0, "attention_dropout": 0.0}
TEXT = {"model_type": "distilbert", "dim": 16, "hidden_dim": 32, "n_layers": 1, "n_heads": 2, "vocab_size": 50, **STILL}


def build_model():
    """A tiny model without what depends on how a batch is cut: dropout and batch-norm statistics."""
    torch.manual_seed(0)
    config = DualVQAConfig(
        vision_config=vision_config("resnet"),
        text_config=TEXT,
        num_answers=ANSWERS,
        fusion_type="cross_attention",
        fusion_hidden_size=16,
        fusion_num_attention_heads=2,
        fusion_dropout=0.0,
        head_dropout=0.0,
        freeze_vision=True,
    )
    return DualVQAForQuestionAnswering(config)


def build_rows():
    """Rows with few yes/no questions, so that many pieces of a batch have none."""
    generator = torch.Generator().manual_seed(1)
    rows = []
    for number in range(ROWS):
        binary = number % 11 == 0
        rows.append(
            {
                "input_ids": torch.randint(1, 50, (TOKENS,), generator=generator),
                "pixel_values": torch.randn(3, 32, 32, generator=generator),
                "binary_labels": torch.tensor(number % 2 if binary else -100),
                "open_ended_labels": torch.tensor(-100 if binary or number % 7 == 0 else number % ANSWERS),
                "question_type_labels": torch.tensor(0 if binary else 1),
            }
        )
    return rows


class FirstGradients(TrainerCallback):
    """Keeps the gradients of the first step, as the optimizer gets them."""

    gradients = None

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self.gradients is None:
            named = {name.removeprefix("module."): p.grad for name, p in model.named_parameters()}
            self.gradients = {name: grad.clone() for name, grad in named.items() if grad is not None}


def train(weighting, batch_size, accumulation_steps, folder):
    """What ten steps come to with one way of weighing the heads' losses."""
    first = FirstGradients()
    args = DualVQATrainingArguments(
        output_dir=folder,
        use_cpu=True,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation_steps,
        max_steps=STEPS,
        optim="sgd",
        learning_rate=0.05,
        lr_scheduler_type="linear",
        task_weighting=weighting,
        task_weighting_learning_rate=0.1,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    model = build_model()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trainer = DualVQATrainer(model, args, train_dataset=build_rows(), callbacks=[first])
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "binary_loss" in entry]
    return {
        "processes": args.world_size,
        "before": before,
        "gradients": first.gradients,
        "parameters": {name: parameter.detach() for name, parameter in model.named_parameters()},
        "log": [[entry[name] for name in LOGGED] for entry in logged],
    }


def main(batch_size, accumulation_steps, output):
    results = {}
    for weighting in WEIGHTINGS:
        results[weighting] = train(weighting, int(batch_size), int(accumulation_steps), f"{output}.run")
    if int(os.environ.get("RANK", 0)) == 0:
        torch.save(results, output)


if __name__ == "__main__":
    main(*sys.argv[1:])
    PartialState().destroy_process_group()

"""Evaluates and predicts data sets of several lengths and writes what came of it: what test_distributed.py starts."""

import os

import torch
from distributed_steps import build_model, build_rows

from dualvqa.trainer import DualVQATrainer
from dualvqa.training.arguments import DualVQATrainingArguments

LENGTHS = (1, 2, 7, 16, 17)
BATCH_SIZES = (2, 4)


def collate(rows):
    """Batches of questions of different lengths: row n has n % 5 + 1 tokens."""
    lengths = [int(row["number"]) % 5 + 1 for row in rows]
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0] if name != "number"}
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return {**batch, "input_ids": batch["input_ids"][:, : max(lengths)], "attention_mask": mask.long()}


def main(output):
    model, rows, found = build_model(), build_rows(), {}
    rows = [{**row, "number": torch.tensor(number)} for number, row in enumerate(rows)]
    for length in LENGTHS:
        for batch_size in BATCH_SIZES:
            args = DualVQATrainingArguments(
                output_dir=f"{output}.run",
                use_cpu=True,
                per_device_eval_batch_size=batch_size,
                report_to="none",
                disable_tqdm=True,
            )
            result = DualVQATrainer(model, args, data_collator=collate).predict(rows[:length])
            losses = {name: value for name, value in result.metrics.items() if name.endswith("loss")}
            found[length, batch_size] = {
                "processes": args.world_size,
                "logits": [torch.as_tensor(logits) for logits in result.predictions],
                "labels": [torch.as_tensor(labels) for labels in result.label_ids],
                "losses": losses,
            }
    if int(os.environ.get("RANK", 0)) == 0:
        torch.save(found, output)

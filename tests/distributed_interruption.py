"""Trains in two processes of which the second gets a signal, and writes how each stopped: for test_distributed.py."""

import json
import os
import signal

from distributed_steps import build_model, build_rows
from transformers import TrainerCallback

from dualvqa.trainer import DualVQATrainer
from dualvqa.training.arguments import DualVQATrainingArguments
from dualvqa.training.interruption import Interrupted


class Signal(TrainerCallback):
    """Sends a signal to the second process in the third step."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 2 and args.process_index == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def main(output):
    args = DualVQATrainingArguments(
        output_dir=f"{output}.run",
        use_cpu=True,
        per_device_train_batch_size=4,
        max_steps=6,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = DualVQATrainer(build_model(), args, train_dataset=build_rows(), callbacks=[Signal()])
    try:
        trainer.train()
    except Interrupted as error:
        found = {"signal": error.signal, "step": trainer.state.global_step, "message": str(error)}
        with open(f"{output}.{args.process_index}", "w", encoding="utf-8") as file:
            json.dump({**found, "checkpoint": error.checkpoint}, file)

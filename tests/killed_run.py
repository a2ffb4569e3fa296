"""run_vqa.py, killed with SIGKILL after a step or in the middle of writing a checkpoint: what test_resuming.py starts.

python killed_run.py step|save STEP [arguments of run_vqa.py]
"""

import os
import signal
import sys

from dualvqa.run import main as run_vqa
from dualvqa.training.trainer import DualVQATrainer


def kill_at(method, step):
    """Makes a method of the Trainer the last thing that happens at a step."""
    original = getattr(DualVQATrainer, method)

    def replacement(trainer, *args):
        result = original(trainer, *args)
        if trainer.state.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(DualVQATrainer, method, replacement)


if __name__ == "__main__":
    kind, step, *arguments = sys.argv[1:]
    kill_at({"step": "end_step", "save": "progress"}[kind], int(step))  # progress() is written near a checkpoint's end
    run_vqa.main(arguments)

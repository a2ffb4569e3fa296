"""Ctrl-C and SIGTERM while training: the step is finished, a checkpoint written, and it is said how to go on."""

import contextlib
import json
import os
import shutil
import signal
import threading

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

SIGNALS = (signal.SIGINT, signal.SIGTERM)
MARK = "interrupted.json"  # in a checkpoint that is there only because a run was interrupted

handling = []  # the callbacks that signals come to now


def leave_group():
    """Puts a process that makes batches out of reach of what a terminal sends to all processes of a run."""
    if handling:
        os.setpgid(0, 0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=leave_group)


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal, after a checkpoint. Its text says how to go on.

    Attributes:
        signal: the signal's number.
        checkpoint: the folder of the checkpoint.
    """

    def __init__(self, message, number, checkpoint):
        super().__init__(message)
        self.signal, self.checkpoint = number, checkpoint


@contextlib.contextmanager
def stopping_gently(trainer, folder):
    """Lets Ctrl-C and SIGTERM end a trainer's training after the step, or the evaluation, that goes on.

    A second Ctrl-C stops at once. Signals reach the main thread alone: in another one nothing changes.

    Args:
        trainer: the Trainer.
        folder: of its checkpoints.

    Raises:
        Interrupted: the run was stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    callback = InterruptionCallback(folder)
    before = {number: signal.signal(number, callback.receive) for number in SIGNALS}
    trainer.add_callback(callback)
    handling.append(callback)
    try:
        yield
    finally:
        handling.remove(callback)
        trainer.remove_callback(callback)
        for number, handler in before.items():
            signal.signal(number, handler)
    if callback.number:  # it came after the last step and its evaluation
        os.kill(os.getpid(), callback.number)


class InterruptionCallback(TrainerCallback):
    """Asks for a checkpoint once a signal has come, and raises [`Interrupted`] when it is written.

    That checkpoint is one more than the run was to write. It takes no other's place, and goes as soon as the resumed
    run has written its next: what is kept and averaged is the same as without the interruption.
    """

    def __init__(self, folder):
        self.folder, self.process = folder, os.getpid()
        self.number = 0  # of the signal that has come
        self.stopping = 0  # the same in all processes
        self.planned = True  # whether the run was to write this checkpoint anyway
        self.extra = None  # the checkpoint that this run goes on from, where it is one too many

    def receive(self, number, frame):
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.number:
            self.number = number
            # Not a worker that was just made, and still had this handler. print() may not be used in here.
            if int(os.environ.get("RANK", 0)) == 0 and os.getpid() == self.process:
                os.write(2, b"\nstopping after this step, with a checkpoint; Ctrl-C stops at once and without one\n")

    def checkpoint(self, state):
        return os.path.join(self.folder, f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")

    def on_train_begin(self, args, state, control, **kwargs):
        if os.path.isfile(os.path.join(self.checkpoint(state), MARK)):
            self.extra = self.checkpoint(state)
            count_extra(args, 1)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step < state.max_steps and abs(state.epoch - round(state.epoch)) > 1e-9:
            self.stop(args, control)  # at an epoch's end there may be an evaluation, which a resumed run has not

    def on_evaluate(self, args, state, control, **kwargs):
        self.stop(args, control)

    def on_epoch_end(self, args, state, control, **kwargs):
        self.stop(args, control)

    def stop(self, args, control):
        self.stopping = self.stopping or agreed(self.number, args)
        if self.stopping and not control.should_save:
            self.planned = False
            count_extra(args, 1)
            control.should_save = True

    def on_save(self, args, state, control, **kwargs):
        folder = self.checkpoint(state)
        if self.extra and self.extra != state.best_model_checkpoint:
            if args.should_save:
                shutil.rmtree(self.extra, ignore_errors=True)
            count_extra(args, -1)
        self.extra = None
        if self.stopping:
            if args.should_save and not self.planned:
                with open(os.path.join(folder, MARK), "w", encoding="utf-8") as file:
                    json.dump({"signal": signal.Signals(self.stopping).name}, file)
            raise Interrupted(message_of(args, state, folder), self.stopping, folder)


def count_extra(args, number):
    """Changes how many checkpoints are kept."""
    if args.save_total_limit:
        args.save_total_limit += number


def message_of(args, state, folder):
    if args.process_index:
        return ""
    done = f"stopped after step {state.global_step} of {state.max_steps}"
    if args.save_only_model:
        return f"{done}; its weights are in {folder}: a new run starts from them with --model_name_or_path {folder}"
    return (
        f"{done}, with the checkpoint {folder}. Go on with the same command and --resume_from_checkpoint true, in "
        f"Python with trainer.train(resume_from_checkpoint=True)"
    )


def agreed(number, args):
    """The signal that has come to any process: all stop after the same step."""
    if args.world_size == 1:
        return number
    found = torch.tensor(number, device=args.device)
    torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MAX)
    return int(found)

"""What happens at a moment of a run, at the places that transformers has for it."""

from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

SHOWN_WHILE_TRAINING = {
    "epoch": "epoch",
    "loss": "loss",
    "binary_loss": "yes/no loss",
    "open_ended_loss": "open-ended loss",
    "temperature": "temperature",
    "eval_image_to_text_recall_at_1": "texts of images found",
    "eval_routed_accuracy": "validation accuracy",
    "eval_routed_binary_accuracy": "yes/no",
    "eval_routed_open_ended_accuracy": "open-ended",
}


class StepByStep(TrainerCallback):
    """What a [`DualHeadTrainer`] does between steps, epochs and runs."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.postponed_save = False

    def on_train_begin(self, args, state, control, **kwargs):
        self.postponed_save = False
        self.trainer.begin_training()

    def on_epoch_begin(self, args, state, control, **kwargs):
        for part in (self.trainer.train_sampler, self.trainer.train_collator):
            if hasattr(part, "set_epoch"):  # also in an epoch that is resumed in its middle
                part.set_epoch(int(state.epoch or 0))

    def on_step_begin(self, args, state, control, **kwargs):
        self.trainer.begin_step(state.epoch or 0.0)

    def on_optimizer_step(self, args, state, control, **kwargs):
        groups = self.trainer.optimizer.param_groups
        self.trainer.learning_rates = {f"{g['part']}learning_rate": float(g["lr"]) for g in groups if "part" in g}

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer.end_step()
        # A checkpoint from between an epoch's last step and its evaluation would be resumed without the latter.
        if control.should_save and state.epoch == int(state.epoch):
            control.should_save, self.postponed_save = False, True

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_save = control.should_save or self.postponed_save
        self.postponed_save = False


def figures_line(logs):
    """The figures of a log entry that one watches, as a line, or None; trainer_state.json has all."""
    shown = [f"{label} {float(logs[key]):.4g}" for key, label in SHOWN_WHILE_TRAINING.items() if key in (logs or {})]
    return ", ".join(shown) if len(shown) > 1 else None


class ShortProgressCallback(ProgressCallback):
    """The Trainer's progress bar, with a line of the figures one watches."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        line = figures_line(logs)
        if line and state.is_world_process_zero and self.training_bar is not None:
            self.training_bar.write(line)


class ShortPrinterCallback(PrinterCallback):
    """The same lines without a bar, where `disable_tqdm` is set."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        line = figures_line(logs)
        if line and state.is_local_process_zero:
            print(line)


def shorten(trainer):
    """Lets a Trainer show a line of figures in place of all of them."""
    for long, short in ((ProgressCallback, ShortProgressCallback), (PrinterCallback, ShortPrinterCallback)):
        if trainer.pop_callback(long):
            trainer.add_callback(short)

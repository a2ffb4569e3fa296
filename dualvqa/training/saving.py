"""What a run writes: checkpoints that are whole or not there, and a model that is replaced only by a whole one."""

import contextlib
import json
import logging
import os
import shutil

from safetensors import SafetensorError
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging as transformers_logging

from modeling_dualvqa.model_card_dualvqa import write_model_card

from .checkpoint_integrity import PROGRESS_NAME, find_problem
from .checkpoints import CheckpointError, newest_checkpoint
from .divergence import check_finite
from .output_folder import written_whole

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def without_bars():
    """Without the bars that transformers draws of what takes a second, between those of training."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


class SavingMixin:
    """The Trainer's methods that write, as they are in transformers 5.23; of [`DualVQATrainer`]."""

    def _save_rng_state(self, output_dir):
        """The last files of a checkpoint but the Trainer's state, which says that it is complete."""
        super()._save_rng_state(output_dir)
        progress = self.progress()
        if self.args.should_save:
            with open(os.path.join(output_dir, PROGRESS_NAME), "w", encoding="utf-8") as file:
                json.dump(progress, file, indent=2)
        self.accelerator.wait_for_everyone()  # each process writes files of its own

    def _save_checkpoint(self, model, trial):
        """As in transformers. A checkpoint that can't be written leaves the earlier ones, and nothing of itself."""
        check_finite(self)
        run_dir = self._get_output_dir(trial=trial)
        folder = os.path.join(run_dir, f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        shutil.rmtree(folder, ignore_errors=True) if self.args.should_save else None  # what a killed run left
        self.accelerator.wait_for_everyone()
        try:
            super()._save_checkpoint(model, trial)
            self.written.append(folder)
        except (OSError, RuntimeError, SafetensorError) as error:
            if os.path.isdir(folder) and not find_problem(folder):
                raise  # the checkpoint is there, something after it failed
            shutil.rmtree(folder, ignore_errors=True)
            last = newest_checkpoint(run_dir)
            advice = f"go on with --resume_from_checkpoint {last}" if last else "start again: there is no earlier one"
            raise CheckpointError(
                f"{folder} could not be written: {error}. Free some space on the disk and {advice}"
            ) from error

    def last_checkpoint(self, among=None):
        """The last checkpoint that this run has written or gone on from, or None."""
        return next((path for path in reversed(self.written if among is None else among) if os.path.isdir(path)), None)

    def save_model(self, output_dir=None, _internal_call=False):
        """As in transformers, unless the weights aren't numbers any more.

        Raises:
            DivergedError: as said. Nothing is written.
            CheckpointError: the folder of the run can't be written into. A model that was in it is still there.
        """
        check_finite(self)
        if output_dir is not None and os.path.realpath(output_dir) != os.path.realpath(self.args.output_dir):
            return super().save_model(output_dir, _internal_call)
        try:
            super().save_model(None, _internal_call)
        except (OSError, RuntimeError, SafetensorError) as error:
            last = self.last_checkpoint()
            advice = f"finish with --resume_from_checkpoint {last}, which has its weights" if last else "start again"
            raise CheckpointError(
                f"the model could not be written to {self.args.output_dir}: {error}. Free some space on the disk and "
                f"{advice}"
            ) from error

    def _save(self, output_dir=None, state_dict=None):
        """Saves as the Trainer does, without training_args.bin: a pickle doesn't belong in a folder that is shared."""
        config = self.accelerator.unwrap_model(self.model).config
        vars(config).pop("use_cache", None)  # the Trainer's own switch for generation, which this model doesn't have
        if self.hub_model_id:
            config.model_card = {**(config.model_card or {}), "repo_id": self.hub_model_id}
        own = output_dir is None or os.path.realpath(output_dir) == os.path.realpath(self.args.output_dir)
        whole = written_whole(self.args.output_dir) if own and self.args.should_save else None
        with without_bars(), whole or contextlib.nullcontext(output_dir) as folder:
            super()._save(folder, state_dict)
            if self.args.should_save and getattr(self.model, "peft_config", None):
                config.save_pretrained(folder)  # what the adapters are for
            pickled = os.path.join(folder, "training_args.bin")
            if os.path.exists(pickled):
                os.remove(pickled)

    def create_model_card(self, **kwargs):
        """Writes configuration and model card of the output folder anew, with what was recorded since it was saved.

        Args:
            **kwargs: `tags`, one or several for the card. What else the Trainer's card takes, the run knows.
        """
        tags = kwargs.pop("tags", None) or []
        ignored = sorted(name for name, value in kwargs.items() if value is not None)
        if self.is_world_process_zero():
            if ignored:
                logger.warning("the model card is the run's: %s is left out", ", ".join(ignored))
            model = self.accelerator.unwrap_model(self.model)
            model.record_tags([tags] if isinstance(tags, str) else tags)
            model.config.save_pretrained(self.args.output_dir)
            write_model_card(self.args.output_dir, model.config, model.parameter_counts())

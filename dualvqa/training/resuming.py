"""What a run leaves for the one that resumes it, and what that one takes up or refuses."""

import hashlib
import logging
import math
import os
import time
from itertools import islice

import torch

from modeling_dualvqa.weights_dualvqa import check_names
from processing import StreamedRows

from .checkpoints import (
    check_architecture,
    check_processor,
    check_rules,
    check_weights,
    complete_checkpoints,
    mean_weights,
    read_progress,
    tied_names,
)

logger = logging.getLogger(__name__)


class ResumingMixin:
    """The methods of [`DualVQATrainer`] that concern checkpoints to go on from; of transformers 5.23's Trainer it
    overrides `_issue_warnings_after_load`."""

    def average_checkpoints(self, folder=None):
        """Gives the model the mean of the weights of the run's last checkpoints; returns how many there were."""
        self.accelerator.wait_for_everyone()  # the last one is written by one process, and all read it
        wanted, last = self.args.average_checkpoints, self.state.global_step
        own = (path for step, path in complete_checkpoints(folder or self.args.output_dir) if step <= last)
        checkpoints = list(islice(own, wanted))
        if len(checkpoints) < wanted:
            logger.warning("there are %d checkpoints to average in place of %d", len(checkpoints), wanted)
        if checkpoints:
            model = self.accelerator.unwrap_model(self.model)
            self._issue_warnings_after_load(model.load_state_dict(mean_weights(checkpoints), strict=False))
            logger.info("the weights are the mean of %s", ", ".join(map(os.path.basename, checkpoints)))
        return len(checkpoints)

    def _issue_warnings_after_load(self, load_result):
        """Refuses what transformers 5.23 only warns of, after resuming, and after loading the best checkpoint."""
        missing = set(load_result.missing_keys) - tied_names(self.accelerator.unwrap_model(self.model))
        check_names("the checkpoint", missing, load_result.unexpected_keys)

    def check_resumed(self, checkpoint):
        """Refuses a checkpoint of another architecture, vocabulary or choice of parameters; None is fine.

        Raises:
            ValueError: as said.
        """
        if checkpoint:
            model = self.accelerator.unwrap_model(self.model)
            if hasattr(self.processing_class, "answers"):
                check_rules(checkpoint, self.processing_class)  # words of yes and no make another vocabulary
            check_architecture(checkpoint, model)
            check_weights(checkpoint, model)
            if hasattr(self.processing_class, "answers"):
                check_processor(checkpoint, self.processing_class)
            saved = read_progress(checkpoint)
            before, now = saved.get("optimizer"), self.optimizer_name()
            if before and now and before != now:  # it isn't said by checkpoints of earlier versions
                raise ValueError(
                    f"{checkpoint} has the state of the optimizer {before}, and this run has {now}. Give --optim as "
                    f"before, or start a new run from it with --model_name_or_path"
                )
            for name, value in self.chosen_parameters().items():
                if (saved.get(name) or None) != (value or None):
                    raise ValueError(
                        f"{checkpoint} was written with {name} {saved.get(name)!r}, found {value!r}: its optimizer has "
                        f"other parameters. Give the same, or start a new run from it with --model_name_or_path"
                    )

    def chosen_parameters(self):
        """What besides the architecture decides which parameters are trained."""
        values = self.auxiliary.values if self.auxiliary else None
        return {"freeze_parameters": self.args.freeze_parameters, "auxiliary_columns": values}

    def optimizer_name(self):
        """The class of the optimizer, None where DeepSpeed has its own."""
        if self.is_deepspeed_enabled:
            return None
        own = getattr(self.optimizer, "optimizer", self.optimizer)
        return (self.get_optimizer_cls_and_kwargs(self.args, self.model)[0] if own is None else type(own)).__name__

    def plan(self):
        """How a step's questions are cut."""
        return {
            "processes": self.args.world_size,
            "accumulation steps": self.args.gradient_accumulation_steps,
            "questions per batch": self.args.train_batch_size,
        }

    def take_up(self, checkpoint):
        """Reads what a checkpoint has of the run besides what transformers reads, and logs what is otherwise now."""
        self.resumed_progress = read_progress(checkpoint) if checkpoint else None
        self.trained_rows = self.describe_rows()
        if checkpoint:
            self.compare_plans(checkpoint)
            self.compare_data(checkpoint)

    def compare_plans(self, checkpoint):
        """Logs what changes where a run goes on with its steps cut in another way."""
        saved, plan = self.resumed_progress["plan"], self.plan()
        for name, value in saved.items():
            if plan[name] != value:
                logger.warning(
                    "%s was written with %d %s, training goes on with %d", checkpoint, value, name, plan[name]
                )
        before, now = math.prod(saved.values()), math.prod(plan.values())
        if before != now:
            logger.warning(
                "a step had %d questions and now has %d: the place in the epoch is found from the number of steps, so "
                "some questions are seen twice or not at all in it",
                before,
                now,
            )

    def compare_data(self, checkpoint):
        """Warns where a run goes on with other training rows than it began with."""
        saved, now = self.resumed_progress.get("data"), self.trained_rows
        if saved and now and saved != now:  # checkpoints of earlier versions don't say
            logger.warning(
                "%s was written while training on %d questions, and training goes on with %s%d: the steps of its "
                "epochs are counted anew, and what it has learned from the others stays",
                checkpoint,
                saved["questions"],
                "other rows, " if saved["questions"] == now["questions"] else "",
                now["questions"],
            )

    def describe_rows(self):
        """Number and digest of the training rows, None where they are ready-made batches; of a stream the number."""
        if self.train_summary is None:
            return None
        digest = None
        if not isinstance(self.train_dataset, StreamedRows):
            names = [name for name in ("image_key", "question", "answer") if name in self.train_dataset.column_names]
            columns = [self.train_dataset[name][:] for name in names]
            digest = hashlib.sha256(repr(columns).encode()).hexdigest()[:16]
        return {"questions": self.train_summary.rows, "digest": digest}

    def begin_training(self):
        """Takes up the counts and means that a resumed run had begun."""
        self.start_counting()
        self.started = time.perf_counter()
        progress = self.resumed_progress
        if progress is None:
            return
        losses = progress["losses"]
        self.runtime_before = progress["runtime"]
        self._tr_loss += losses["running"]
        self._total_loss_scalar = losses["total"]
        self._globalstep_last_logged = self.sums_start = losses["last_logged"]
        shares = {task: total / self.args.world_size for task, total in losses["sums"].items()}
        self.loss_sums = {task: torch.tensor(share, device=self.args.device) for task, share in shares.items()}
        if progress["task_weighting"] == self.args.task_weighting:
            self.criterion.task_weighting.load_state_dict(progress["task_weighting_state"])
        else:
            logger.warning(
                "the checkpoint was written with task_weighting %s; %s starts anew",
                progress["task_weighting"],
                self.args.task_weighting,
            )

    def progress(self):
        """What a resumed run needs besides what transformers keeps."""
        running = self.over_processes(self._tr_loss.clone()).item() / self.args.world_size
        return {
            "plan": self.plan(),
            "data": self.trained_rows,
            "optimizer": self.optimizer_name(),
            **self.chosen_parameters(),
            "losses": {
                "sums": {task: self.over_processes(total.clone()).item() for task, total in self.loss_sums.items()},
                "running": running,
                "total": self._total_loss_scalar,
                "last_logged": self._globalstep_last_logged,
            },
            "runtime": self.runtime_before + time.perf_counter() - self.started,
            "task_weighting": self.args.task_weighting,
            "task_weighting_state": self.criterion.task_weighting.state_dict(),
        }

"""Training with the Hugging Face Trainer: the per-head loss, its exact counts, and runs that can be resumed."""

import contextlib
import logging
import math
import os
import time
from itertools import islice

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import EvalPrediction, has_length

from processing.metrics import AnswerMetrics, check_best_metric

from .auxiliary import auxiliary_counts, auxiliary_loss
from .batch_norm import use_running_statistics
from .checkpoints import (
    check_architecture,
    check_processor,
    check_weights,
    complete_checkpoints,
    find_checkpoint,
    mean_weights,
    read_progress,
    refuse_other_runs,
)
from .clock import measured
from .divergence import StopAtDivergence, check_finite, check_outputs
from .feed_forward_dualvqa import choices
from .freezing import freeze_parameters
from .hub import PushingMixin
from .loss_dualvqa import IGNORE_INDEX, count_valid, distillation_loss
from .objective import TASKS, Objective, label_names, labels_of
from .output_folder import claimed
from .sampling import (
    ImageGroupedSampler,
    MarkedRows,
    RepeatMaskingCollator,
    balanced_weights,
    evaluation_order,
    question_lengths,
)
from .saving import SavingMixin
from .weights_dualvqa import check_names

logger = logging.getLogger(__name__)


class StepByStep(TrainerCallback):
    """What the Trainer does between steps, epochs and runs, at the places that transformers has for it."""

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


def restored(arrays, order):
    """Arrays whose rows came in `order`, in the rows' own order; None and tuples as the Trainer has them."""
    if arrays is None or isinstance(arrays, tuple):
        return arrays and tuple(restored(array, order) for array in arrays)
    return arrays[np.argsort(order)]


def has_answers(rows):
    """Whether canonical rows have answers; others may."""
    return "answer" in (getattr(rows, "column_names", None) or ("answer",))


class DualVQATrainer(PushingMixin, SavingMixin, Trainer):
    """Trainer whose loss is the masked focal loss per head, divided by the counts of the whole effective batch.

    Args:
        train_collator: makes the training batches, with augmentation; `data_collator` when left out, which always makes
            those of evaluation and prediction.
        answer_counts: (N,) how often each answer of the vocabulary occurs in training, for `class_weighting`.
        auxiliary: [`AuxiliaryTargets`] that are learned besides; `train_collator` gives their labels.
        train_answers: a pair (group, answer) for each training row, for `balanced_sampling`: see `balanced_weights`.

    Raises:
        ValueError: class weights are asked for without counts to compute them from, or their number isn't N; balanced
            sampling is asked for without the answers of all rows, or of a stream.
    """

    loss_is_scaled_for_ga = True  # dual_head_loss divides by the counts of all accumulation steps

    def __init__(self, *args, train_collator=None, answer_counts=None, train_answers=None, auxiliary=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.label_names = self.args.label_names or label_names(self.heads())
        self.auxiliary = auxiliary
        self.train_collator = train_collator or self.data_collator
        self.train_answers = train_answers
        if self.args.balanced_sampling and self.train_dataset is not None:
            self.check_answers()
        self.answer_counts = answer_counts
        # Not `objective`: a search keeps its own under that name.
        self.criterion = Objective(self.accelerator.unwrap_model(self.model).config, self.args, answer_counts)
        self.check_sharding()
        self.fused_state, self.expert_use = None, {}
        self.start_counting()
        self.checkpoint = self.resumed_progress = self.train_sampler = self.grad_norm = None
        self.written, self.proven, self.last_batch = [], [], None  # checkpoints, oldest first; those known to be good
        self.attached = contextlib.ExitStack()
        self.add_callback(StepByStep(self))
        self.add_callback(StopAtDivergence(self))

    def start_counting(self):
        """Sets to nothing what is summed up in a run, some of it since the last logging step."""
        self.loss_sums, self.sums_start, self.questions, self.seconds = {}, 0, 0, 0
        self.weights_in_force, self.learning_rates = dict(self.criterion.task_weighting.weights), {}
        self.step_statistics, self.runtime_before, self.evaluation_seconds = None, 0.0, 0.0

    def heads(self):
        """The heads of the model that is trained."""
        return self.accelerator.unwrap_model(self.model).config.heads

    def check_answers(self):
        """Refuses to balance answers that aren't known."""
        if isinstance(self.train_dataset, IterableDataset):
            raise ValueError("balanced_sampling needs all rows at hand, found a stream")
        found = "none" if self.train_answers is None else len(self.train_answers)
        if found != len(self.train_dataset):
            raise ValueError(
                f"balanced_sampling needs the answers of {len(self.train_dataset)} training rows, found {found}"
            )

    def check_sharding(self):
        """Refuses what DeepSpeed and FSDP can't do, before anything is trained."""
        if self.is_deepspeed_enabled and self.criterion.task_weighting.reads_fused_state:
            raise ValueError(
                f"task_weighting {self.args.task_weighting} needs a backward pass through the heads alone, which "
                f"DeepSpeed doesn't have; use another weighting, or DDP or FSDP"
            )
        if self.args.average_checkpoints and (self.is_deepspeed_enabled or self.is_fsdp_enabled):
            raise ValueError("average_checkpoints works on one device or with DDP, not with DeepSpeed or FSDP")
        if self.args.average_checkpoints and getattr(self.model, "peft_config", None):
            raise ValueError(
                "average_checkpoints takes the weights of whole models, found adapters (PEFT): leave it out"
            )
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        if self.is_fsdp_enabled and "FULL" not in str(plugin.state_dict_type):
            raise ValueError(
                f"checkpoints are written and resumed with fsdp_state_dict_type FULL_STATE_DICT, found "
                f"{plugin.state_dict_type}: see launch/fsdp2.yaml"
            )

    def train(self, resume_from_checkpoint=None, trial=None, **kwargs):
        """As in transformers; what is resumed is complete and belongs to this run, or refused.

        With `average_checkpoints` the model then has the mean of its last checkpoints' weights, and the metrics say in
        `averaged_checkpoints` of how many.

        Args:
            resume_from_checkpoint: True, or a path: see `find_checkpoint`.

        Raises:
            ValueError: no complete checkpoint, or one of another architecture or vocabulary; nothing to train; other
                runs' checkpoints among those to be averaged; a folder that can't be written into, or is in use.
            CheckpointError: a checkpoint can't be written. Those before it are intact.
            DivergedError: a loss, a gradient or a weight is not finite.
        """
        best = self.args.load_best_model_at_end or self.args.save_strategy == "best"
        if best and isinstance(self.compute_metrics, AnswerMetrics) and not isinstance(self.eval_dataset, dict):
            check_best_metric(self.args.metric_for_best_model)
        folder = self._get_output_dir(trial)
        self.checkpoint = find_checkpoint(resume_from_checkpoint, folder)
        self.written, self.proven = [self.checkpoint] if self.checkpoint else [], []
        if self.args.average_checkpoints:
            refuse_other_runs(folder, self.checkpoint)
        with contextlib.ExitStack() as self.attached:  # what holds in training alone
            if self.args.should_save:
                self.attached.enter_context(claimed(self.args.output_dir))
            try:
                result = super().train(self.checkpoint, trial, **kwargs)
                if not self.state.global_step and self.args.num_train_epochs > 0:
                    raise ValueError(
                        f"nothing was trained: the training rows make no batch of {self.args.train_batch_size} for "
                        f"each of {self.args.world_size} processes; give more rows, a smaller "
                        f"--per_device_train_batch_size, or leave --dataloader_drop_last out"
                    )
                check_finite(self)
            except Exception as error:
                last = self.last_checkpoint()
                if last and last not in str(error):
                    logger.warning("training has stopped; its last checkpoint is %s, and can be resumed", last)
                raise
            finally:
                self.is_in_train, self.last_batch = False, None
            if self.args.average_checkpoints:
                result.metrics["averaged_checkpoints"] = self.average_checkpoints(folder)
        return result

    def _hp_search_setup(self, trial):
        """Where train() of transformers 5.23 has the model and the arguments that it trains with.

        A `model_init` was called just before it, and this sets what a hyperparameter search tries.
        """
        super()._hp_search_setup(trial)
        self.prepare_model()

    def prepare_model(self):
        """Prepares the model that is about to be trained, with the arguments as they are now."""
        self.args.check()
        model = self.accelerator.unwrap_model(self.model)
        self.criterion = Objective(model.config, self.args, self.answer_counts)
        self.label_names = self.args.label_names or label_names(self.heads())
        self.check_sharding()
        if self.args.balanced_sampling:
            self.check_answers()
        self.check_resumed(self.checkpoint)
        self.freeze_parameters()
        self.forget_calibration()
        self.resumed_progress = read_progress(self.checkpoint) if self.checkpoint else None
        if self.checkpoint:
            self.compare_plans(self.checkpoint)
        if self.criterion.task_weighting.reads_fused_state:
            # That of the outputs is a copy under DDP and mixed precision, and the losses don't depend on a copy.
            self.attached.callback(model.fusion.register_forward_hook(self.keep_fused_state).remove)
        if not self.args.torch_compile:
            self.attached.callback(use_running_statistics(model))
        if self.auxiliary:
            self.attached.callback(self.auxiliary.detach, model, self.auxiliary.attach(model))

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
        check_names("the checkpoint", load_result.missing_keys, load_result.unexpected_keys)

    def freeze_parameters(self):
        """Lets stand still what the run doesn't train.

        Raises:
            ValueError: see `freezing.freeze_parameters`, or what both heads share is frozen under mgda.
        """
        model = self.accelerator.unwrap_model(self.model)
        freeze_parameters(model, self.args.freeze_parameters)
        shared = [p for name, p in model.named_parameters() if "_head." not in name]
        if self.criterion.task_weighting.reads_fused_state and not any(parameter.requires_grad for parameter in shared):
            raise ValueError(
                f"task_weighting {self.args.task_weighting} weighs the heads by what they do to parameters that both "
                f"share, and all of these are frozen; freeze fewer, or use another weighting"
            )

    def forget_calibration(self):
        """Drops what earlier calibration found: it holds for the weights that it was fitted on."""
        model = self.accelerator.unwrap_model(self.model)
        calibrated = getattr(self.processing_class, "calibration", None)
        if calibrated or model.config.familiarity:
            logger.warning("the calibration of the model that training goes on from is dropped; calibrate it anew")
        if calibrated:
            self.processing_class.calibration = None
        ((model.config.model_card or {}).get("results") or {}).pop("calibration", None)
        model.forget_familiarity()

    def check_resumed(self, checkpoint):
        """Refuses a checkpoint of another architecture, vocabulary or choice of parameters; None is fine.

        Raises:
            ValueError: as said.
        """
        if checkpoint:
            model = self.accelerator.unwrap_model(self.model)
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

    def begin_step(self, epoch):
        self.criterion.task_weighting.start_step(epoch)
        self.weights_in_force = dict(self.criterion.task_weighting.weights)

    def end_step(self):
        if self.step_statistics is not None:
            self.criterion.task_weighting.update(self.over_processes(self.step_statistics))
            self.step_statistics = None
        self.seconds += time.perf_counter() - self.step_started

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        self.step_started = time.perf_counter()  # before the data are read
        if self.state.global_step >= self.state.max_steps:  # resumed at its end: transformers would go a step further
            return [], None
        found = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.last_batch = found[0][-1] if found[0] else self.last_batch
        return found

    def _get_num_items_in_batch(self, batch_samples, device):
        """Valid rows of each task in all micro-batches of one step, over all processes: task -> scalar."""
        labels = [labels_of(batch, self.heads()) for batch in batch_samples]
        if not any(labels):
            return None
        counts = torch.stack([sum(count_valid(found[task]).to(device) for found in labels) for task in TASKS])
        counts = dict(zip(TASKS, self.over_processes(counts)))
        if "auxiliary_labels" in batch_samples[0]:
            own = sum(auxiliary_counts(batch["auxiliary_labels"]).to(device) for batch in batch_samples)
            counts["auxiliary"] = self.over_processes(own)
        return counts

    def _get_grad_norm(self, model, grad_norm=None):
        self.grad_norm = super()._get_grad_norm(model, grad_norm)
        return self.grad_norm

    def over_processes(self, tensor):
        """The sum of a tensor over all processes."""
        return self.accelerator.reduce(tensor, "sum") if self.args.world_size > 1 else tensor

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = labels_of(inputs, self.heads()) or dict.fromkeys(TASKS)
        teacher = {task: inputs.get(f"teacher_{task}_logits") for task in TASKS}
        outputs = model(
            **{n: value for n, value in inputs.items() if not n.endswith("_labels") and "teacher_" not in n}
        )
        logits = {task: outputs.get(f"{task}_logits") for task in TASKS}
        loss, parts = self.criterion(logits, labels, num_items_in_batch)
        if model.training and any(scores is not None for scores in teacher.values()):
            loss, parts = self.distilled(parts, logits, teacher, labels, num_items_in_batch)
        if model.training and parts:
            self.observe(parts, len(labels["binary"]))
        if outputs.get("auxiliary_logits") is not None:
            counts = num_items_in_batch and num_items_in_batch["auxiliary"]
            extra = auxiliary_loss(outputs["auxiliary_logits"], inputs["auxiliary_labels"], counts)
            self.loss_sums["auxiliary"] = self.loss_sums.get("auxiliary", 0) + extra.detach()
            loss = loss + self.args.auxiliary_loss_weight * extra
        if outputs.get("load_balancing_loss") is not None:
            loss = loss + self.load_balancing(outputs, labels["question_type"], num_items_in_batch)
        if num_items_in_batch is not None:
            # Gradients are averaged over processes, and the counts are those of all processes already.
            loss = loss * self.args.world_size
        return (loss, outputs) if return_outputs else loss

    def distilled(self, parts, logits, teacher, labels, counts):
        """The loss and its parts where each head learns from its teacher too: (1 - w) of its own part, w of the other.

        All questions of a head's type count, also those whose answer is not in the vocabulary.
        """
        weight, types = self.args.distillation_weight, labels["question_type"]
        parts, single_head = dict(parts), logits["binary"] is None
        total = count_valid(types) if counts is None else counts["question_type"]
        binary = count_valid(labels["binary"]) if counts is None else counts["binary"]
        for number, task in enumerate(TASKS[:2]):
            if teacher[task] is None:
                continue
            rows, count = types == number, binary if task == "binary" else total - binary
            if task == "open_ended" and single_head:  # its vocabulary has yes and no, or these rows have no label
                rows, count = types != IGNORE_INDEX, total
            soft = distillation_loss(logits[task][rows], teacher[task][rows], self.args.distillation_temperature)
            soft = soft / count.clamp(min=1)
            self.loss_sums[f"{task}_distillation"] = self.loss_sums.get(f"{task}_distillation", 0) + soft.detach()
            parts[task] = (1 - weight) * parts[task] + weight * soft
        weights = self.criterion.weights()
        return sum(weights[task] * part for task, part in parts.items()), parts

    def load_balancing(self, outputs, question_types, counts):
        """The weighted loss of a micro-batch by its share of the step's questions; counts the experts' use besides."""
        config = self.accelerator.unwrap_model(self.model).config
        if question_types is not None and not self.model.training:
            used = torch.stack([choices(s, config.fusion_experts_per_question) for s in outputs["expert_logits"]])
            for task, number in (("binary", 0), ("open_ended", 1)):
                self.expert_use[task] = self.expert_use.get(task, 0) + used[:, question_types == number].sum(dim=1)
        share = 1.0 if counts is None else count_valid(question_types) / counts["question_type"].clamp(min=1)
        return config.load_balancing_loss_weight * share * outputs["load_balancing_loss"]

    def keep_fused_state(self, fusion, inputs, outputs):
        self.fused_state = outputs[0]

    def observe(self, parts, questions):
        """Adds a micro-batch to what is logged of its step, and to what the next step's weights come from."""
        for task, part in parts.items():
            self.loss_sums[task] = self.loss_sums.get(task, 0) + part.detach()
        self.questions += questions
        scaler = getattr(self.accelerator, "scaler", None)
        found = self.criterion.task_weighting.statistics(parts, self.fused_state, scaler.get_scale() if scaler else 1.0)
        self.fused_state = None
        if found is not None:
            self.step_statistics = found if self.step_statistics is None else self.step_statistics + found

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """As in transformers, but a batch with some of the labels is refused, not taken for one without."""
        labels_of(inputs, self.heads())
        return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)

    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ):
        """As in transformers, but the losses are those of all rows at once, however they come in batches.

        Metrics that have `for_rows` are those of the rows that are evaluated, whichever rows they were made for.

        Raises:
            ValueError: rows without answers are evaluated with such metrics; to predict for them is fine.
            DivergedError: what a model in training answers is not finite.
        """
        rows, compute_metrics, started = dataloader.dataset, self.compute_metrics, time.perf_counter()
        order, bound = self.evaluation_order(rows), compute_metrics
        if hasattr(compute_metrics, "for_rows") and (description == "Evaluation" or has_answers(rows)):
            bound = self.compute_metrics = compute_metrics.for_rows(rows)

        def metrics_of(found):
            if self.is_in_train:
                check_outputs(self, found.predictions if isinstance(found.predictions, tuple) else [found.predictions])
            if order is not None:
                found = EvalPrediction(restored(found.predictions, order), restored(found.label_ids, order))
            return bound(found)

        self.compute_metrics = metrics_of if bound and not self.args.batch_eval_metrics else bound
        try:
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        finally:
            self.compute_metrics = compute_metrics
            self.evaluation_seconds = time.perf_counter() - started
        if self.is_in_train:
            check_outputs(self, [value for name, value in output.metrics.items() if name.endswith("_loss")])
        output.metrics.update(self.expert_shares(metric_key_prefix))
        if order is not None:
            predictions, labels = (restored(arrays, order) for arrays in (output.predictions, output.label_ids))
            output = output._replace(predictions=predictions, label_ids=labels)
        if output.predictions is None or output.label_ids is None:
            return output
        heads = self.accelerator.unwrap_model(self.model).config.heads
        arrays = output.predictions if isinstance(output.predictions, tuple) else (output.predictions,)
        arrays = [array for array in arrays if array.ndim > 1]  # without the novelty
        logits = dict(zip([*heads, "question_type"], map(torch.as_tensor, arrays)))
        arrays = output.label_ids if isinstance(output.label_ids, tuple) else (output.label_ids,)
        labels = {name.removesuffix("_labels"): torch.as_tensor(array) for name, array in zip(self.label_names, arrays)}
        loss, parts = self.criterion(logits, labels)
        output.metrics[f"{metric_key_prefix}_loss"] = loss.item()
        output.metrics.update({f"{metric_key_prefix}_{task}_loss": part.item() for task, part in parts.items()})
        return output

    def predict(self, *args, **kwargs):
        output = super().predict(*args, **kwargs)
        measured(output.metrics, self.evaluation_seconds)
        return output

    def expert_shares(self, prefix):
        """The share of each question type's choices that fell on each expert, by block; empty without experts."""
        use, self.expert_use = self.expert_use, {}
        shares = {}
        for task, counts in use.items():  # (blocks, E)
            found = self.over_processes(counts.float())
            for block, row in enumerate((found / found.sum(dim=1, keepdim=True).clamp(min=1)).tolist()):
                shares |= {f"{prefix}_{task}_block_{block}_expert_{n}_share": share for n, share in enumerate(row)}
        return shares

    def evaluation_order(self, dataset):
        """The order in which rows are evaluated, or None for their own: see `sampling.evaluation_order`.

        It needs canonical rows, a tokenizer, and results that come all at the end, to be put back into their order.
        """
        columns = getattr(dataset, "column_names", None) or ()
        at_once = self.args.eval_do_concat_batches and not self.args.batch_eval_metrics
        plain = at_once and not self.args.include_for_metrics
        tokenizer = getattr(self.processing_class, "tokenizer", None)
        if not has_length(dataset) or not plain or tokenizer is None or not {"image_key", "question"} <= set(columns):
            return None
        return evaluation_order(dataset["image_key"][:], question_lengths(dataset["question"][:], tokenizer))

    def _get_eval_sampler(self, eval_dataset):
        """Rows in the order that encodes each image for as few batches as can be; `evaluation_loop` puts them back."""
        return self.evaluation_order(eval_dataset) or range(len(eval_dataset))

    def log(self, logs, start_time=None):
        """Adds to the training loss what it is made of, and to the end of training the time before it was resumed.

        Means since the last time: each head's own loss, and questions per second of training, reading included and
        evaluation left out. As they are: the heads' weights in the last step, and each tower's learning rate.
        """
        steps = self.state.global_step - self.sums_start
        if "loss" in logs and steps > 0:
            for task, total in self.loss_sums.items():
                logs[f"{task}_loss"] = self.over_processes(total).item() / steps
            logs |= {f"{task}_weight": weight for task, weight in self.weights_in_force.items()}
            logs |= self.learning_rates
            questions = torch.tensor(float(self.questions), device=self.args.device)
            logs["questions_per_second"] = round(self.over_processes(questions).item() / self.seconds, 3)
            self.loss_sums, self.sums_start = {}, self.state.global_step
            self.questions = self.seconds = 0
        measured(logs, self.evaluation_seconds if "train_loss" not in logs else time.perf_counter() - self.started)
        if "train_loss" in logs:
            logs["train_loss"] = self._total_loss_scalar / max(self.state.global_step, 1)
            logs["train_runtime"] = round(logs["train_runtime"] + self.runtime_before, 4)
        super().log(logs, start_time)

    def create_optimizer(self, model=None):
        """The optimizer that the arguments name, with a learning rate for each tower and one for the rest."""
        if self.optimizer is None:
            model = self.model if model is None else model
            rates = {
                "vision_encoder": ("vision_", self.args.vision_learning_rate),
                "text_encoder": ("text_", self.args.text_learning_rate),
            }
            decayed = set(self.get_decay_parameter_names(model))
            groups = {}
            for name, parameter in model.named_parameters():
                if not parameter.requires_grad:
                    continue
                part, rate = next((found for tower, found in rates.items() if tower in name.split(".")), ("", None))
                rate = self.args.learning_rate if rate is None else rate
                decay = self.args.weight_decay if name in decayed else 0.0
                group = {"params": [], "part": part, "lr": rate, "weight_decay": decay}
                groups.setdefault((part, decay), group)["params"].append(parameter)
            optimizer_class, arguments = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = optimizer_class(list(groups.values()), **arguments)
        return self.optimizer

    def check_rows(self):
        """Refuses rows that make no batch. Of a stream their number is known only when it has ended."""
        if self.train_dataset is None or isinstance(self.train_dataset, IterableDataset):
            return
        rows, batch = len(self.train_dataset), self._train_batch_size * self.args.world_size
        if rows < (batch if self.args.dataloader_drop_last else 1):
            dropping = "dataloader_drop_last leaves" if rows else "there is"
            raise ValueError(f"{dropping} nothing to train on: there are {rows} training rows, and a batch has {batch}")

    def get_train_dataloader(self):
        if self.train_dataset is None:
            raise ValueError("training needs a train_dataset, found none")
        if isinstance(self.train_dataset, IterableDataset):
            return self.stream_dataloader()
        self.check_rows()
        evaluation_collator, self.data_collator = self.data_collator, RepeatMaskingCollator(self.train_collator)
        try:
            return self._get_dataloader(
                dataset=MarkedRows(self.train_dataset),
                description="Training",
                batch_size=self._train_batch_size,
                sampler_fn=self._get_train_sampler,
                is_training=True,
            )
        finally:
            self.data_collator = evaluation_collator

    def get_eval_dataloader(self, eval_dataset=None):
        """As in transformers, but workers that live on are those of the dataset that is asked for, not of another."""
        key = eval_dataset if isinstance(eval_dataset, str) else "eval"
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        rows = self.eval_dataset[key] if isinstance(rows, str) else rows
        kept = getattr(self, "_eval_dataloaders", {})
        if key in kept and kept[key].dataset is not rows:
            del kept[key]
        return super().get_eval_dataloader(eval_dataset)

    def _get_dataloader(self, dataset, description, batch_size, sampler_fn=None, is_training=False, **options):
        """As in transformers 5.23, but only training drops its last rows where they are too few for a batch."""
        dropping = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = dropping and is_training
        try:
            return super()._get_dataloader(dataset, description, batch_size, sampler_fn, is_training, **options)
        finally:
            self.args.dataloader_drop_last = dropping

    def stream_dataloader(self):
        """Batches of a training part that gives each process its own rows, so that no process reads for others."""
        self.train_sampler = self.train_dataset
        return DataLoader(
            self.train_dataset,
            self._train_batch_size,
            collate_fn=self.train_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            persistent_workers=self.args.dataloader_persistent_workers,
            drop_last=self.args.dataloader_drop_last,
        )

    def _get_train_sampler(self, train_dataset=None):
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        grouped = self.args.questions_per_image
        keys = self.train_dataset["image_key"][:] if grouped else range(len(self.train_dataset))
        world = self.args.world_size
        multiple = world * self._train_batch_size if world > 1 else 1
        lengths = self.train_lengths() if self.args.train_sampling_strategy == "group_by_length" else None
        batch = world * self._train_batch_size
        power = self.args.balanced_sampling
        weights = balanced_weights(self.train_answers, power) if power else None
        self.train_sampler = ImageGroupedSampler(keys, grouped or 1, seed, multiple, lengths, batch, weights)
        return self.train_sampler

    def train_lengths(self):
        """Tokens of each training question: the column that `length_column_name` names, or counted here."""
        columns = getattr(self.train_dataset, "column_names", None) or ()
        if self.args.length_column_name in columns:
            return self.train_dataset[self.args.length_column_name][:]
        tokenizer = getattr(self.processing_class, "tokenizer", None)
        if tokenizer is None or "question" not in columns:
            raise ValueError(
                f"train_sampling_strategy group_by_length needs a column {self.args.length_column_name!r}, or a column "
                f"'question' and a processor; found the columns {', '.join(columns) or 'of no Dataset'}"
            )
        return question_lengths(self.train_dataset["question"][:], tokenizer)

"""Training with the Hugging Face Trainer: the per-head loss, its exact counts, and runs that can be resumed."""

import contextlib
import logging
import time

import torch
from transformers import Trainer, TrainerCallback

from modeling_dualvqa.feed_forward_dualvqa import choices
from modeling_dualvqa.loss_dualvqa import IGNORE_INDEX, count_valid, distillation_loss
from processing.metrics import AnswerMetrics, check_best_metric

from .auxiliary import auxiliary_counts, auxiliary_loss
from .batch_norm import use_running_statistics
from .checkpoints import find_checkpoint, read_progress, refuse_other_runs
from .clock import measured
from .divergence import StopAtDivergence, check_finite
from .evaluating import EvaluatingMixin
from .freezing import freeze_parameters
from .hub import PushingMixin
from .interruption import stopping_gently
from .loading import LoadingMixin
from .objective import TASKS, Objective, label_names, labels_of
from .output_folder import claimed
from .resuming import ResumingMixin
from .saving import SavingMixin

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


class DualVQATrainer(PushingMixin, SavingMixin, ResumingMixin, EvaluatingMixin, LoadingMixin, Trainer):
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
            Interrupted: Ctrl-C or SIGTERM; a checkpoint was written.
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
            self.attached.enter_context(stopping_gently(self, folder))
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

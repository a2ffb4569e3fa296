"""Training with the Hugging Face Trainer: the per-head loss, its exact counts, and runs that can be resumed."""

import contextlib
import inspect
import logging
import time

import torch
from transformers import EarlyStoppingCallback, Trainer

from modeling_dualvqa.loss_dualvqa import count_valid
from processing.metrics import AnswerMetrics, check_best_metric

from .arguments import DualVQATrainingArguments
from .auxiliary import auxiliary_counts
from .batch_norm import use_running_statistics
from .callbacks import StepByStep, shorten
from .checkpoints import find_checkpoint, refuse_other_runs
from .divergence import StopAtDivergence, check_finite
from .evaluating import EvaluatingMixin
from .freezing import freeze_parameters
from .hub import PushingMixin
from .interruption import stopping_gently
from .loading import LoadingMixin
from .objective import TASKS, Objective, label_names, labels_of
from .optimizer import build_optimizer
from .output_folder import claimed
from .preparing import PreparingMixin
from .recording import RecordingMixin
from .refitting import forget_retrainings
from .resuming import ResumingMixin
from .saving import SavingMixin
from .sharding import check_sharding
from .step_log import StepLogMixin

logger = logging.getLogger(__name__)

MIXINS = (
    PreparingMixin,
    RecordingMixin,
    PushingMixin,
    SavingMixin,
    ResumingMixin,
    EvaluatingMixin,
    LoadingMixin,
    StepLogMixin,
)


class DualHeadTrainer(*MIXINS, Trainer):
    """Trainer whose loss is the masked focal loss per head, divided by the counts of the whole effective batch.

    Data are raw rows with images, questions and answers (a Dataset, IterableDataset, list of dicts or DataFrame), or
    canonical ones of `prepare_dataset`, or batches that are ready made. What is made of them has defaults, where
    `processing_class` is the model's processor: the collators, augmentation, the metric, decoded images and frozen
    towers' embeddings that are kept.

    Args:
        *args, **kwargs: as transformers' Trainer takes them; `args` are [`DualVQATrainingArguments`].
        column_mapping: the data's columns -> "image", "question" and "answer", where they have other names.
        data_args: [`DataArguments`] with all else about reading them.
        train_collator: makes the training batches; with the augmentation of the arguments when left out.
            `data_collator` makes those of evaluation and prediction.
        answer_counts: (N,) how often each answer of the vocabulary occurs in training, for `class_weighting`; counted
            in the rows when left out.
        train_answers: a pair (group, answer) for each training row, for `balanced_sampling`; likewise.
        auxiliary: [`AuxiliaryTargets`] that are learned besides; those of the arguments' `auxiliary_columns` when left
            out.

    Raises:
        ValueError: bad rows (see `prepare_dataset`); class weights or balanced sampling without what they are computed
            from; a metric to choose the best state by that an evaluation doesn't have.
    """

    loss_is_scaled_for_ga = True  # the loss is divided by the counts of all accumulation steps

    def __init__(
        self,
        *args,
        column_mapping=None,
        data_args=None,
        train_collator=None,
        answer_counts=None,
        train_answers=None,
        auxiliary=None,
        **kwargs,
    ):
        given = inspect.signature(Trainer).bind(*args, **kwargs).arguments
        given["args"] = given.get("args") or DualVQATrainingArguments("runs/trainer")
        self.take_data(given, column_mapping, data_args)
        super().__init__(**given)
        self.label_names = self.args.label_names or label_names(self.heads())
        self.auxiliary, self.train_answers, self.answer_counts = auxiliary, train_answers, answer_counts
        self.check_processor()
        self.default_targets()
        self.augments = False
        self.train_collator = train_collator or self.default_train_collator()
        if self.args.balanced_sampling and self.train_dataset is not None:
            self.check_answers()
        # Not `objective`: a search keeps its own under that name.
        self.criterion = Objective(self.accelerator.unwrap_model(self.model).config, self.args, self.answer_counts)
        check_sharding(self)
        self.fused_state, self.expert_use, self.last_outputs, self.evaluated_rows = None, {}, {}, None
        self.start_counting()
        self.checkpoint = self.resumed_progress = self.train_sampler = self.grad_norm = None
        self.leakages = []  # training rows, other rows, and their `leakage_report`
        self.written, self.proven, self.last_batch = [], [], None  # checkpoints, oldest first; those known to be good
        self.has_trained = self.described = self.embedded = False
        self.told = set()  # parts whose words for yes and no were looked at
        self.attached = contextlib.ExitStack()
        self.add_callback(StepByStep(self))
        self.add_callback(StopAtDivergence(self))
        stopping = any(isinstance(found, EarlyStoppingCallback) for found in self.callback_handler.callbacks)
        if self.args.early_stopping_patience and not stopping:
            self.add_callback(EarlyStoppingCallback(self.args.early_stopping_patience))
        if self.complete:
            shorten(self)

    def heads(self):
        """The heads of the model that is trained."""
        return self.accelerator.unwrap_model(self.model).config.heads

    def train(self, resume_from_checkpoint=None, trial=None, **kwargs):
        """As in transformers; what is resumed is complete and belongs to this run, or refused.

        Where the trainer has the model's processor, the output folder then has the whole model with its card, figures
        and state. With `average_checkpoints` the model has the mean of its last checkpoints' weights, and the metrics
        say in `averaged_checkpoints` of how many.

        Args:
            resume_from_checkpoint: True, or a path: see `find_checkpoint`.

        Raises:
            ValueError: no complete checkpoint, or one of another architecture or vocabulary; nothing to train; other
                runs' checkpoints among those to be averaged; a folder that can't be written into, or is in use.
            CheckpointError: a checkpoint can't be written. Those before it are intact.
            DivergedError: a loss, a gradient or a weight is not finite.
            Interrupted: Ctrl-C or SIGTERM; a checkpoint was written.
        """
        self.check_evaluation()
        folder = self._get_output_dir(trial)
        self.checkpoint = find_checkpoint(resume_from_checkpoint, folder)
        self.written, self.proven = [self.checkpoint] if self.checkpoint else [], []
        if self.args.average_checkpoints:
            refuse_other_runs(folder, self.checkpoint)
        with contextlib.ExitStack() as self.attached:  # what holds in training alone
            if self.args.should_save:
                self.attached.enter_context(claimed(self.args.output_dir))
                if not self.checkpoint and trial is None:
                    forget_retrainings(folder)
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
        self.has_trained = self.has_trained or trial is None
        if self.complete and trial is None:
            self.finish(result.metrics)
        return result

    def check_evaluation(self):
        """Refuses to train towards a best state that no evaluation finds."""
        best = self.args.load_best_model_at_end or self.args.save_strategy == "best"
        if best and isinstance(self.compute_metrics, AnswerMetrics) and not isinstance(self.eval_dataset, dict):
            check_best_metric(self.args.metric_for_best_model)

    def _hp_search_setup(self, trial):
        """Where train() of transformers 5.23 has the model and the arguments that it trains with.

        A `model_init` was called just before it, and this sets what a hyperparameter search tries.
        """
        super()._hp_search_setup(trial)
        self.prepare_model()

    def prepare_model(self):
        """Prepares the model that is about to be trained, with the arguments as they are now."""
        self.args.check()
        self.default_targets()
        model = self.accelerator.unwrap_model(self.model)
        self.criterion = Objective(model.config, self.args, self.answer_counts)
        self.label_names = self.args.label_names or label_names(self.heads())
        check_sharding(self)
        if self.args.balanced_sampling:
            self.check_answers()
        self.check_data()
        self.check_resumed(self.checkpoint)
        self.freeze_parameters()
        self.check_rows()
        if not self.described:
            self.describe_data()
        self.start_record()
        self.last_outputs = {}  # those of the weights as they were
        self.forget_calibration()
        self.take_up(self.checkpoint)
        self.prepare_inputs()
        if self.criterion.task_weighting.reads_fused_state:
            # That of the outputs is a copy under DDP and mixed precision, and the losses don't depend on a copy.
            self.attached.callback(model.fusion.register_forward_hook(self.keep_fused_state).remove)
        if not self.args.torch_compile:
            self.attached.callback(use_running_statistics(model))
        if self.auxiliary:
            self.attached.callback(self.auxiliary.detach, model, self.auxiliary.attach(model))

    def freeze_parameters(self):
        """Freezes what the run doesn't train.

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
        features = {n: value for n, value in inputs.items() if not n.endswith("_labels") and "teacher_" not in n}
        outputs = model(**features)
        step = self.criterion.of_batch(outputs, labels, inputs, num_items_in_batch)
        if model.training and step.parts:
            self.observe(step, len(labels["binary"]))
        elif outputs.get("expert_logits") is not None:
            self.count_experts(outputs, labels["question_type"])
        loss = step.total
        if num_items_in_batch is not None:
            # Gradients are averaged over processes, and the counts are those of all processes already.
            loss = loss * self.args.world_size
        return (loss, outputs) if return_outputs else loss

    def keep_fused_state(self, fusion, inputs, outputs):
        self.fused_state = outputs[0]

    def create_optimizer(self, model=None):
        if self.optimizer is None:
            self.optimizer = build_optimizer(self, self.model if model is None else model)
        return self.optimizer

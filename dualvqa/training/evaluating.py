"""Evaluation and prediction: every dataset whole, in the order that is fastest, and with its own answers."""

import time

import numpy as np
import torch
from transformers.trainer_utils import EvalPrediction, has_length

from modeling_dualvqa.feed_forward_dualvqa import choices
from modeling_dualvqa.loss_dualvqa import count_valid
from processing.python_rows import is_canonical
from processing.yes_no import tell_of_scored

from .clock import measured
from .divergence import check_outputs
from .objective import labels_of
from .preparing import part_name
from .sampling import evaluation_order, question_lengths

ROWS = 1024  # whose loss is computed at a time


def restored(arrays, order):
    """Arrays whose rows came in `order`, in the rows' own order; None and tuples as the Trainer has them."""
    if arrays is None or isinstance(arrays, tuple):
        return arrays and tuple(restored(array, order) for array in arrays)
    return arrays[np.argsort(order)]


def has_answers(rows):
    """Whether canonical rows have answers; others may."""
    return "answer" in (getattr(rows, "column_names", None) or ("answer",))


def loss_of_all(criterion, logits, labels_in):
    """The loss of an evaluation and its parts, some rows at a time: at once it would take twice the logits' memory.

    Args:
        criterion: the run's [`Objective`].
        logits: task -> (rows, N) tensor.
        labels_in: function of a slice of the rows -> task -> their labels.
    """
    rows, sums, counts = len(next(iter(logits.values()))), {}, {}
    for start in range(0, max(rows, 1), ROWS):
        piece = slice(start, start + ROWS)
        labels = labels_in(piece)
        ones = {task: torch.ones(()) for task in labels}
        _, parts = criterion({task: scores[piece] for task, scores in logits.items()}, labels, ones)
        for task, part in parts.items():
            sums[task] = sums.get(task, 0.0) + part
            counts[task] = counts.get(task, 0.0) + count_valid(labels[task])
    parts = {task: total / counts[task].clamp(min=1) for task, total in sums.items()}
    weights = criterion.weights()
    return sum(weights[task] * part for task, part in parts.items()), parts


class EvaluatingMixin:
    """The methods of [`DualVQATrainer`] that evaluate, over those of transformers 5.23's Trainer."""

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
            self.tell_of(part_name(metric_key_prefix), rows)

        def metrics_of(found):
            if self.is_in_train:
                check_outputs(self, found.predictions if isinstance(found.predictions, tuple) else [found.predictions])
            if order is not None:
                found = EvalPrediction(restored(found.predictions, order), restored(found.label_ids, order))
            return bound(found)

        self.evaluated_rows = rows
        self.compute_metrics = metrics_of if bound and not self.args.batch_eval_metrics else bound
        try:
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        finally:
            self.compute_metrics, self.evaluated_rows = compute_metrics, None
            self.evaluation_seconds = time.perf_counter() - started
        self.latest_predictions = None if self.is_in_train else output.predictions
        if self.is_in_train:
            check_outputs(self, [value for name, value in output.metrics.items() if name.endswith("_loss")])
        output.metrics.update(self.expert_shares(metric_key_prefix))
        if order is not None:
            predictions, labels = (restored(arrays, order) for arrays in (output.predictions, output.label_ids))
            output = output._replace(predictions=predictions, label_ids=labels)
            self.latest_predictions = None if self.is_in_train else predictions
        if output.predictions is None or output.label_ids is None:
            return output
        heads = self.accelerator.unwrap_model(self.model).config.heads
        arrays = output.predictions if isinstance(output.predictions, tuple) else (output.predictions,)
        arrays = [array for array in arrays if array.ndim > 1]  # without the novelty
        logits = dict(zip([*heads, "question_type"], map(torch.as_tensor, arrays)))
        arrays = output.label_ids if isinstance(output.label_ids, tuple) else (output.label_ids,)
        labels = {name.removesuffix("_labels"): torch.as_tensor(array) for name, array in zip(self.label_names, arrays)}
        soft = self.soft_labels(self.processing_class) if self.complete and is_canonical(rows) else []

        def labels_in(piece):
            if not soft:
                return {task: found[piece] for task, found in labels.items()}
            own = soft[0].labels(rows["answer"][piece])  # of all rows they would take as much memory as the logits
            return {name.removesuffix("_labels"): found for name, found in own.items()}

        loss, parts = loss_of_all(self.criterion, logits, labels_in)
        output.metrics[f"{metric_key_prefix}_loss"] = loss.item()
        output.metrics.update({f"{metric_key_prefix}_{task}_loss": part.item() for task, part in parts.items()})
        return output

    def tell_of(self, part, rows):
        """Warns, once for each part, of answers that look like yes and no and that the model can't give, and of
        questions that it was trained on."""
        if part != "train" and self.complete and is_canonical(rows) and part not in self.told:
            self.told.add(part)
            if "answer" in rows.column_names:
                tell_of_scored(part, rows["answer"][:], self.processing_class)
                self.tell_of_trained(part, rows)

    def answer_metrics(self, prediction):
        """Our figures of the rows that are evaluated, for a `compute_metrics` that adds its own to them.

        Args:
            prediction: what the Trainer gives `compute_metrics`.

        Returns:
            figure -> value, see [`AnswerMetrics`].

        Raises:
            ValueError: no evaluation goes on, its rows are ready-made batches, or the trainer has no processor.
        """
        rows = self.evaluated_rows
        if rows is None or not self.complete or not is_canonical(rows):
            raise ValueError(
                "answer_metrics is for a compute_metrics while rows with answers are evaluated, by a trainer that has "
                "the model's processor as processing_class"
            )
        majority = self.majority_of(self.accelerator.unwrap_model(self.model))
        return self.default_metrics(self.processing_class, rows, majority)(prediction)

    def predict(self, *args, **kwargs):
        """As in transformers; its time is measured by a clock that nobody sets."""
        output = super().predict(*args, **kwargs)
        measured(output.metrics, self.evaluation_seconds)
        return output

    def count_experts(self, outputs, question_types):
        """Adds which experts the questions of a batch chose, by question type."""
        if question_types is None:
            return
        chosen = self.accelerator.unwrap_model(self.model).config.fusion_experts_per_question
        used = torch.stack([choices(scores, chosen) for scores in outputs["expert_logits"]])
        for task, number in (("binary", 0), ("open_ended", 1)):
            self.expert_use[task] = self.expert_use.get(task, 0) + used[:, question_types == number].sum(dim=1)

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

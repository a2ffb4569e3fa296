"""The losses of a step: those of the heads, of a teacher, of auxiliary heads, of experts."""

from dataclasses import dataclass, field

import torch

from modeling_dualvqa.loss_dualvqa import (
    IGNORE_INDEX,
    class_weights,
    count_valid,
    distillation_loss,
    dual_head_loss,
    is_valid,
)

from .arguments import TASKS
from .auxiliary import auxiliary_loss
from .task_weighting import build_task_weighting


def label_names(heads):
    """The keys of a batch that a model with these heads learns from, and is evaluated with."""
    return [f"{task}_labels" for task in (heads if len(heads) == 1 else TASKS)]


def labels_of(batch, heads):
    """The labels of a batch by task, (B,) or soft (B, N), or {} where it has none.

    One head needs no more than its own: every row with a label is a question of its type, and none is another's.

    Raises:
        ValueError: the batch has some labels, and not all that the heads need.
    """
    found = {task: batch[f"{task}_labels"] for task in TASKS if batch.get(f"{task}_labels") is not None}
    missing = [name for name in label_names(heads) if name.removesuffix("_labels") not in found]
    if found and missing:
        raise ValueError(
            f"a model with the heads {', '.join(heads)} needs the labels {', '.join(label_names(heads))}; batches lack "
            f"{', '.join(missing)} and have {', '.join(f'{task}_labels' for task in found)}"
        )
    if not found or len(heads) > 1:
        return found
    own = found[heads[0]]
    types = torch.where(is_valid(own), TASKS.index(heads[0]), IGNORE_INDEX)
    none = torch.full_like(types, IGNORE_INDEX)
    return {**dict.fromkeys(TASKS, none), "question_type": types, **found}


@dataclass
class StepLoss:
    """The loss of a batch, and what it is made of.

    Attributes:
        total: scalar, to be differentiated.
        parts: task -> its own loss, unweighted.
        besides: name -> a further loss, unweighted, for the log.
    """

    total: torch.Tensor
    parts: dict
    besides: dict = field(default_factory=dict)


class Objective:
    """The losses of a run, with its settings as they are when this is made.

    Args:
        config: the model's; what the arguments leave out is taken from it.
        args: [`DualVQATrainingArguments`].
        answer_counts: (N,) how often each answer of the vocabulary occurs in training, for `class_weighting`.

    Raises:
        ValueError: class weights are asked for without counts to compute them from, or their number isn't N; a
            weighting of two heads for a model with one.
    """

    def __init__(self, config, args, answer_counts=None):
        self.focal = {"gamma": config.focal_gamma, "label_smoothing": args.label_smoothing_factor}
        self.load_balancing_weight = config.load_balancing_loss_weight
        self.auxiliary_weight = args.auxiliary_loss_weight
        self.distillation = args.distillation_weight, args.distillation_temperature
        weights = {}
        for task, weight in config.loss_weights.items():
            given = getattr(args, f"{task}_loss_weight")
            weights[task] = weight if given is None else given
        self.router_weight = weights.pop("question_type")
        self.task_weighting = build_task_weighting({task: weights[task] for task in config.heads}, args)
        self.alphas = {}
        if args.class_weighting != "none":
            if "open_ended" not in config.heads:
                raise ValueError(
                    f"class_weighting {args.class_weighting} weighs the answers of the open-ended head, and this model "
                    f"has none; leave it out"
                )
            if answer_counts is None or len(answer_counts) != config.num_answers:
                found = "none" if answer_counts is None else f"{len(answer_counts)}"
                raise ValueError(f"class_weighting needs the counts of {config.num_answers} answers, found {found}")
            alpha = class_weights(answer_counts, args.class_weighting, args.effective_beta)
            self.alphas = {"open_ended": alpha.to(args.device)}

    def weights(self):
        """task -> weight of its loss in this step, the router's among them."""
        return {**self.task_weighting.weights, "question_type": self.router_weight}

    def __call__(self, logits, labels, counts=None):
        """The loss and its parts: see `dual_head_loss`."""
        found = {task: scores for task, scores in logits.items() if scores is not None}
        alphas = {task: alpha.to(found[task].device) for task, alpha in self.alphas.items() if task in found}
        return dual_head_loss(found, labels, self.weights(), counts, alphas, **self.focal)

    def of_batch(self, outputs, labels, batch, counts=None):
        """The [`StepLoss`] of a micro-batch.

        Args:
            outputs: the model's.
            labels: task -> (B,) labels, or None where the batch has none.
            batch: for `teacher_<head>_logits` and `auxiliary_labels`, where it has them.
            counts: task -> valid rows of the whole effective batch; those of this batch when left out.
        """
        logits = {task: outputs.get(f"{task}_logits") for task in TASKS}
        step = StepLoss(*self(logits, labels, counts))
        teacher = {task: batch.get(f"teacher_{task}_logits") for task in TASKS[:2]}
        if any(scores is not None for scores in teacher.values()):
            self.learn_from(teacher, logits, labels, counts, step)
        if outputs.get("auxiliary_logits") is not None:
            own = counts and counts["auxiliary"]
            extra = auxiliary_loss(outputs["auxiliary_logits"], batch["auxiliary_labels"], own)
            step.besides["auxiliary"] = extra
            step.total = step.total + self.auxiliary_weight * extra
        if outputs.get("load_balancing_loss") is not None:
            types = labels["question_type"]  # the micro-batch counts by its share of the step's questions
            share = 1.0 if counts is None else count_valid(types) / counts["question_type"].clamp(min=1)
            step.total = step.total + self.load_balancing_weight * share * outputs["load_balancing_loss"]
        return step

    def learn_from(self, teacher, logits, labels, counts, step):
        """Mixes a teacher into a step's loss: of each head (1 - w) of its own part and w of `distillation_loss`.

        All questions of a head's type count, also those whose answer is not in the vocabulary.
        """
        (weight, temperature), types = self.distillation, labels["question_type"]
        single_head = logits["binary"] is None
        total = count_valid(types) if counts is None else counts["question_type"]
        binary = count_valid(labels["binary"]) if counts is None else counts["binary"]
        for number, (task, scores) in enumerate(teacher.items()):
            if scores is None:
                continue
            rows, count = types == number, binary if task == "binary" else total - binary
            if task == "open_ended" and single_head:  # its vocabulary has yes and no, or these rows have no label
                rows, count = types != IGNORE_INDEX, total
            soft = distillation_loss(logits[task][rows], scores[rows], temperature) / count.clamp(min=1)
            step.besides[f"{task}_distillation"] = soft
            step.parts[task] = (1 - weight) * step.parts[task] + weight * soft
        weights = self.weights()
        step.total = sum(weights[task] * part for task, part in step.parts.items())

"""The loss of a run: the weights, class weights and gamma that its arguments and its model's configuration name."""

import torch

from modeling_dualvqa.loss_dualvqa import IGNORE_INDEX, class_weights, dual_head_loss

from .arguments import TASKS
from .task_weighting import build_task_weighting


def label_names(heads):
    """The keys of a batch that a model with these heads learns from, and is evaluated with."""
    return [f"{task}_labels" for task in (heads if len(heads) == 1 else TASKS)]


def labels_of(batch, heads):
    """The labels (B,) of a batch by task, or {} where it has none.

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
    none = torch.full_like(own, IGNORE_INDEX)
    types = torch.where(own == IGNORE_INDEX, none, TASKS.index(heads[0]))
    return {**dict.fromkeys(TASKS, none), "question_type": types, **found}


class Objective:
    """`dual_head_loss` with the settings of a run, as they are when it is made.

    Args:
        config: the model's; what the arguments leave out is taken from it.
        args: [`DualVQATrainingArguments`].
        answer_counts: (N,) how often each answer of the vocabulary occurs in training, for `class_weighting`.

    Raises:
        ValueError: class weights are asked for without counts to compute them from, or their number isn't N; a
            weighting of two heads for a model with one.
    """

    def __init__(self, config, args, answer_counts=None):
        self.focal_gamma, self.label_smoothing = config.focal_gamma, args.label_smoothing_factor
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
        return dual_head_loss(found, labels, self.weights(), counts, self.focal_gamma, alphas, self.label_smoothing)

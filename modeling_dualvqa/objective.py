"""The loss of a run: the weights, class weights and gamma that its arguments and its model's configuration name."""

from .loss_dualvqa import class_weights, dual_head_loss
from .task_weighting import build_task_weighting


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

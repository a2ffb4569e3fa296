"""The focal loss and its masked, per-head form. Pure functions; model and trainer both call them."""

from torch import nn

IGNORE_INDEX = -100


def focal_loss(logits, labels, gamma=2.5, alpha=None):
    """Focal loss of every valid row, summed: sum of -alpha_t (1 - p_t)^gamma log p_t.

    Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 5, over a softmax.

    Args:
        logits: (B, N) unnormalised scores.
        labels: (B,) class indices; rows with -100 are left out before anything is computed on them.
        gamma: focusing parameter; 0 gives cross-entropy.
        alpha: (N,) weight of each class, or None for none.

    Returns:
        A scalar. It is zero with zero gradients, and still part of the graph, when no row is valid.
    """
    valid = labels != IGNORE_INDEX
    logits, labels = logits[valid].float(), labels[valid]
    log_p = nn.functional.log_softmax(logits, dim=-1).gather(1, labels[:, None])[:, 0]
    loss = -log_p
    if gamma:  # (1 - p)^gamma has no gradient at p = 1 for gamma < 1: -expm1 stays exact near it, clamp keeps it off 0
        loss = loss * (-log_p.expm1()).clamp(min=1e-12) ** gamma
    if alpha is not None:
        loss = loss * alpha.to(loss)[labels]
    return loss.sum()


def count_valid(labels):
    """Number of rows in `labels` (B,) that take part in a loss, as a float tensor."""
    return (labels != IGNORE_INDEX).sum().float()


def dual_head_loss(logits, labels, weights, counts=None, gamma=2.5, alphas=None):
    """Sum over the tasks of weight * focal loss / count; plain cross-entropy for the question-type router.

    Args:
        logits: dict task -> (B, N_task), tasks among "binary", "open_ended", "question_type".
        labels: dict task -> (B,) with -100 for rows that are not the task's; a task without labels has no loss.
        weights: dict task -> float.
        counts: dict task -> number of valid rows in the whole effective batch; those of this batch when left out.
            Because sums are divided by them, cutting a batch into pieces doesn't change the gradient of the whole.
        gamma: focusing parameter of the two heads.
        alphas: dict task -> (N_task,) class weights, for the tasks that have some.

    Returns:
        The loss and a dict task -> its unweighted part.
    """
    parts = {}
    for task, scores in logits.items():
        if scores is None or labels.get(task) is None:
            continue
        task_gamma = 0.0 if task == "question_type" else gamma
        count = count_valid(labels[task]) if counts is None else counts[task]
        total = focal_loss(scores, labels[task], task_gamma, (alphas or {}).get(task))
        parts[task] = total / count.clamp(min=1)
    return sum(weights[task] * part for task, part in parts.items()), parts

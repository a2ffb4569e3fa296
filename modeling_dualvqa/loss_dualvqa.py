"""The focal loss, its masked, per-head form, and class weights. Pure functions; model and trainer call them."""

import torch
from torch import nn

IGNORE_INDEX = -100
CLASS_WEIGHTINGS = ("none", "inverse", "effective")


def focal_loss(logits, labels, gamma=2.5, alpha=None, label_smoothing=0.0):
    """Focal loss of every valid row, summed: sum of -alpha_t (1 - p_t)^gamma log p_t.

    Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 5, over a softmax. With label smoothing (Szegedy
    et al. 2016, "Rethinking the Inception Architecture", section 7) the mean of that term over targets t, of which the
    label has probability 1 - eps + eps / N and every other class eps / N.

    Args:
        logits: (B, N) unnormalised scores.
        labels: (B,) class indices; rows with -100 are left out before anything is computed on them.
        gamma: focusing parameter; 0 gives cross-entropy.
        alpha: (N,) weight of each class, or None for none.
        label_smoothing: eps, in [0, 1).

    Returns:
        A scalar. It is zero with zero gradients, and still part of the graph, when no row is valid.
    """
    valid = labels != IGNORE_INDEX
    logits, labels = logits[valid].float(), labels[valid]
    log_p = nn.functional.log_softmax(logits, dim=-1)
    if not label_smoothing:
        return focal_terms(
            log_p.gather(1, labels[:, None]), gamma, None if alpha is None else alpha[labels, None]
        ).sum()
    terms = focal_terms(log_p, gamma, alpha)
    return (1 - label_smoothing) * terms.gather(1, labels[:, None]).sum() + label_smoothing * terms.mean(dim=1).sum()


def focal_terms(log_p, gamma, alpha):
    """-alpha (1 - p)^gamma log p, element by element."""
    terms = -log_p
    if gamma:  # (1 - p)^gamma has no gradient at p = 1 for gamma < 1: -expm1 stays exact near it, clamp keeps it off 0
        terms = terms * (-log_p.expm1()).clamp(min=1e-12) ** gamma
    return terms if alpha is None else terms * alpha.to(terms)


def count_valid(labels):
    """Number of rows in `labels` (B,) that take part in a loss, as a float tensor."""
    return (labels != IGNORE_INDEX).sum().float()


def dual_head_loss(logits, labels, weights, counts=None, alphas=None, **focal):
    """Sum over the tasks of weight * focal loss / count; plain cross-entropy for the question-type router.

    Args:
        logits: dict task -> (B, N_task), tasks among "binary", "open_ended", "question_type".
        labels: dict task -> (B,) with -100 for rows that are not the task's; a task without labels has no loss.
        weights: dict task -> float.
        counts: dict task -> number of valid rows in the whole effective batch; those of this batch when left out.
            Because sums are divided by them, cutting a batch into pieces doesn't change the gradient of the whole.
        alphas: dict task -> (N_task,) class weights, for the tasks that have some.
        focal: `gamma` and `label_smoothing` of the two heads, see `focal_loss`.

    Returns:
        The loss and a dict task -> its unweighted part.
    """
    parts = {}
    for task, scores in logits.items():
        if scores is None or labels.get(task) is None:
            continue
        count = count_valid(labels[task]) if counts is None else counts[task]
        options = {"gamma": 0.0} if task == "question_type" else {"alpha": (alphas or {}).get(task), **focal}
        total = focal_loss(scores, labels[task], **options)
        parts[task] = total / count.clamp(min=1)
    return sum(weights[task] * part for task, part in parts.items()), parts


def distillation_loss(logits, teacher_logits, temperature=2.0):
    """T^2 KL(teacher || student) of both softened by the temperature T, summed over the rows.

    Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2: T^2 keeps the gradient's size.

    Args:
        logits, teacher_logits: (B, N).

    Returns:
        A scalar, 0 where both agree.
    """
    student = (logits.float() / temperature).log_softmax(dim=-1)
    teacher = (teacher_logits.float() / temperature).log_softmax(dim=-1)
    return temperature**2 * nn.functional.kl_div(student, teacher, reduction="sum", log_target=True)


def class_weights(counts, weighting, beta=0.999):
    """Weights of the answers for the focal loss, so that rare answers count for more; 1 on average.

    Args:
        counts: (N,) how often each answer occurs in the training part. An answer that never does has weight 0.
        weighting: "inverse" for 1 / n, "effective" for (1 - beta) / (1 - beta^n), the inverse of the effective number
            of samples (Cui et al. 2019, "Class-Balanced Loss", equation 2), "none".
        beta: between 0 (all alike) and 1 (as "inverse").

    Returns:
        (N,) float tensor, or None for "none".

    Raises:
        ValueError: a weighting that doesn't exist, a beta outside [0, 1), or counts that are all zero.
    """
    if weighting not in CLASS_WEIGHTINGS:
        raise ValueError(f"class_weighting must be one of {', '.join(CLASS_WEIGHTINGS)}; found {weighting!r}")
    if not 0 <= beta < 1:
        raise ValueError(f"effective_beta must be in [0, 1), found {beta}")
    if weighting == "none":
        return None
    counts = torch.as_tensor(counts, dtype=torch.float64)
    if not (counts > 0).any():
        raise ValueError("class weights need training answers that are in the vocabulary, found none")
    samples = counts if weighting == "inverse" else (1 - beta**counts) / (1 - beta)
    weights = torch.where(counts > 0, 1 / samples.clamp(min=1e-12), 0.0)
    return (weights / weights[counts > 0].mean()).float()

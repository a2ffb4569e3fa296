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


def soft_focal_loss(logits, targets, gamma=2.5, alpha=None):
    """Binary cross-entropy with soft targets, summed over classes and valid rows: each class is a question of its own.

    It is the sum of -alpha |t - p|^gamma (t log p + (1 - t) log(1 - p)) with p = sigmoid(logit): with gamma 0 the loss
    of Teney et al. 2018, "Tips and Tricks for Visual Question Answering", where targets are 0 or 1 the focal loss, and
    in between its generalisation whose minimum stays at p = t (Li et al. 2020, "Generalized Focal Loss", equation 4).

    Args:
        logits: (B, N) unnormalised scores.
        targets: (B, N) in [0, 1]; rows of -100 are left out before anything is computed on them.
        gamma: focusing parameter.
        alpha: (N,) weight of each class, or None for none.

    Returns:
        A scalar, in the graph also when no row is valid.
    """
    valid = is_valid(targets)
    logits, targets = logits[valid].float(), targets[valid].float()
    terms = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if gamma:  # |t - p|^gamma has no gradient at 0 for gamma < 1
        terms = terms * (targets - logits.sigmoid()).abs().clamp(min=1e-4) ** gamma
    return (terms if alpha is None else terms * alpha.to(terms)).sum()


def is_valid(labels):
    """(B,) which rows of labels (B,), or of soft ones (B, N), take part in a loss."""
    return (labels if labels.ndim == 1 else labels[:, 0]) != IGNORE_INDEX


def count_valid(labels):
    """Number of rows in `labels`, (B,) or (B, N), that take part in a loss, as a float tensor."""
    return is_valid(labels).sum().float()


def head_loss(task, scores, labels, alpha=None, **focal):
    """The loss of one task, summed over its valid rows.

    Args:
        scores: (B, N).
        labels: (B,) classes for `focal_loss`, or (B, N) soft labels for `soft_focal_loss`. The yes/no head has one
            probability, sigmoid(yes - no); the router is trained with plain cross-entropy.
    """
    if task == "question_type":
        return focal_loss(scores, labels, gamma=0.0)
    if labels.ndim == 1:
        return focal_loss(scores, labels, alpha=alpha, **focal)
    if focal.get("label_smoothing"):
        raise ValueError("label smoothing is for hard labels: of soft ones each answer has a probability of its own")
    if task == "binary":
        scores, labels = scores[:, 1:] - scores[:, :1], labels[:, 1:]  # (B, 1)
    return soft_focal_loss(scores, labels, focal.get("gamma", 2.5), alpha)


def dual_head_loss(logits, labels, weights, counts=None, alphas=None, **focal):
    """Sum over the tasks of weight * focal loss / count; plain cross-entropy for the question-type router.

    Args:
        logits: dict task -> (B, N_task), tasks among "binary", "open_ended", "question_type".
        labels: dict task -> (B,) with -100 for rows that are not the task's, or (B, N_task) soft labels; a task without
            labels has no loss.
        weights: dict task -> float.
        counts: dict task -> number of valid rows in the whole effective batch; those of this batch when left out.
            Because sums are divided by them, cutting a batch into pieces doesn't change the gradient of the whole.
        alphas: dict task -> (N_task,) class weights, for the tasks that have some.
        focal: `gamma` and `label_smoothing` of the two heads, see `focal_loss`.

    Raises:
        ValueError: label smoothing of soft labels.

    Returns:
        The loss and a dict task -> its unweighted part.
    """
    parts = {}
    for task, scores in logits.items():
        if scores is None or labels.get(task) is None:
            continue
        count = count_valid(labels[task]) if counts is None else counts[task]
        total = head_loss(task, scores, labels[task], (alphas or {}).get(task), **focal)
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

"""Conformal risk control over images: how many questions about a new image get a wrong answer, in expectation."""

import numpy as np

from .abstention import NoThresholdError


def per_image(images):
    """The number of different images, and the weight (n,) of each question: one over those about its image.

    Questions about one image are not independent. Images are, and a mean over the questions of each is one draw
    (hierarchical conformal prediction, Lee et al. 2023).
    """
    _, numbers, sizes = np.unique(np.asarray(images), return_inverse=True, return_counts=True)
    return len(sizes), 1 / sizes[numbers]


def budget(images, risk):
    """The largest sum of the losses of so many images that lets a new one have the expected loss `risk`.

    Of monotone losses in [0, 1] the expectation at the setting that is chosen is at most (sum + 1) / (images + 1): the
    new image's own loss counts as 1 (Angelopoulos et al. 2022, arXiv 2208.02814, theorem 1).
    """
    return risk * (images + 1) - 1 + 1e-9


def control_risk(scores, correct, images, max_risk):
    """The lowest threshold at which at most `max_risk` of the questions about a new image get a wrong answer.

    The promise: the share of an image's questions that get a wrong answer is at most `max_risk` in expectation, over
    new images and over those that the threshold was chosen on. Questions left unanswered count as not wrong, which
    makes the loss monotone: of the answers that are given a larger share may be wrong. What `choose_threshold` promises
    is another thing: a bound, with a confidence, on the share of wrong ones among the answers given.

    Args:
        scores, correct, images: as in `choose_threshold`.
        max_risk: largest expected share of an image's questions that get a wrong answer, in (0, 1).

    Returns:
        A dict with `threshold`, `max_risk`, `risk_of`, and of the questions that it was chosen on `rows`, `images`, the
        share `coverage` that is answered, the mean share `risk` of an image's that is answered wrongly, and `bound`,
        what the theorem makes of it.

    Raises:
        NoThresholdError: not even the most confident answer can be given; the message says how many images it takes.
    """
    order = np.argsort(-np.asarray(scores, float), kind="stable")
    scores, wrong = np.asarray(scores, float)[order], np.asarray(correct, float)[order] < 1
    count, weights = per_image(images)
    risks = np.cumsum(wrong * weights[order])
    last = np.append(np.diff(scores) != 0, True) if len(scores) else np.zeros(0, bool)  # equal ones together
    allowed = np.flatnonzero(last & (risks <= budget(count, max_risk)))
    if not len(allowed):
        least = int(np.ceil(1 / max_risk)) - 1
        reached = f"it takes at least {least}" if count < least else "the most confident answers are wrong"
        raise NoThresholdError(
            f"no score threshold keeps the expected share of wrongly answered questions within {max_risk:.1%}: found "
            f"{len(scores)} questions about {count} images; {reached}. Give more questions about other images, or a "
            f"larger --max_risk"
        )
    place = allowed[-1]
    return {
        "threshold": float(scores[place]),
        "max_risk": max_risk,
        "risk_of": "questions",
        "rows": len(scores),
        "images": count,
        "coverage": (place + 1) / len(scores),
        "risk": float(risks[place] / count),
        "bound": float((risks[place] + 1) / (count + 1)),
    }

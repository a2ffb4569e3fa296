"""Sets of answers that hold the right one with a promised probability, for questions about new images."""

import math

import numpy as np

from .risk_control import budget, per_image

LEVELS = tuple(round(0.01 * percent, 2) for percent in range(50, 100))  # coverages that are kept
ALONE = 1.0  # the lowest score of a set that has no answer but the best


def true_scores(best_right, scores):
    """(n,) the score down to which a set must reach to hold a question's right answer.

    A set has every answer with at least some score (least ambiguous sets, Sadinle et al. 2019), and always the best.

    Args:
        best_right: (n,) whether the best answer is right: every set holds it.
        scores: (n,) of the right answer, NaN where the head that answers doesn't know it: no set holds it.
    """
    scores = np.asarray(scores, float)
    return np.where(np.asarray(best_right, bool), math.inf, np.where(np.isnan(scores), -math.inf, scores))


def fit_sets(reached, images, levels=LEVELS):
    """The lowest scores of an answer in sets of several coverages.

    The promise: of the questions about a new image at least the share `coverage` has its right answer in the set, in
    expectation (conformal risk control of the share of misses per image; of one question for each image that is split
    conformal prediction, Vovk et al. 2005). Each level holds by itself.

    Args:
        reached: (n,) see `true_scores`.
        images: (n,) key of each question's image.
        levels: coverages in (0, 1).

    Returns:
        A dict of `rows`, `images`, `largest`, the largest coverage that can be promised at all (answers that the head
        doesn't know are in no set), and `levels`: coverage as text -> lowest score; those that can't be promised are
        left out.
    """
    reached, (count, weights) = np.asarray(reached, float), per_image(images)
    order = np.argsort(reached, kind="stable")
    missed = np.cumsum(weights[order])  # where the sets reach to just above a question's score
    unknown = weights[reached == -math.inf].sum()
    found = {}
    for level in levels:
        allowed = budget(count, 1 - level)
        if unknown > allowed or allowed < 0:
            continue
        place = np.searchsorted(missed, allowed, side="right")  # the first that may not be missed
        score = reached[order[place]] if place < len(order) else math.inf
        found[f"{level:g}"] = float(min(score, ALONE))
    largest = 1 - (unknown + 1) / (count + 1) if count else 0.0
    return {"rows": len(reached), "images": count, "largest": max(0.0, float(largest)), "levels": found}


def images_for_coverage(sets, coverage):
    """How many images in all would let a coverage be promised, if as many answers stay unknown; None for no number.

    Args:
        sets: what `fit_sets` gave.
    """
    count = sets["images"]
    unknown = max(0.0, (1 - sets["largest"]) * (count + 1) - 1) / count if count else 1.0
    room = 1 - coverage - unknown
    return math.ceil(coverage / room - 1e-9) if room > 0 else None

"""How many images it takes until a threshold can be promised: a projection from those that were seen."""

import math

import numpy as np
from scipy.stats import norm

from .abstention import SEARCH, STEPS, design_effect, intraclass_correlation

MOST = 50  # times the images that were seen: further nothing is told from them


def images_for_threshold(scores, correct, images, max_risk, confidence=0.95):
    """How many images in all would let `choose_threshold` keep its promise, if new ones are like those seen.

    Of n answers of which the share r is wrong, the bound for as many new ones is about r + z sqrt(2 e r (1 - r) / n),
    with the design effect e. It is solved for n at every threshold that is tried. Twice the fewest images count: of
    many shares the lowest is low by luck too. In simulations that was the right number within a factor of three.

    Args:
        as in `choose_threshold`.

    Returns:
        A number of images, or None where none is in sight: at every score too many answers are wrong, or nearly so.
    """
    order = np.argsort(-np.asarray(scores, float), kind="stable")
    scores, wrong = np.asarray(scores, float)[order], (np.asarray(correct, float)[order] < 1).astype(float)
    _, images = np.unique(np.asarray(images)[order], return_inverse=True)
    count, groups = len(scores), len(set(images))
    spread = norm.ppf(1 - SEARCH * (1 - confidence))
    correlation, needed = intraclass_correlation(wrong, images) if count else 0.0, []
    for place in {max(1, count * step // STEPS) - 1 for step in range(1, STEPS + 1)} if count else ():
        number = int((scores >= scores[place]).sum())
        risk = (wrong[:number].sum() + 1) / (number + 1)  # so that few answers, all right by luck, promise little
        if risk < max_risk:
            effect = design_effect(wrong[:number], images[:number], correlation)
            answers = 2 * effect * risk * (1 - risk) * (spread / (max_risk - risk)) ** 2
            needed.append(2 * math.ceil(groups * max(1, answers / number)))
    fewest = min(needed, default=math.inf)
    return fewest if fewest <= MOST * groups else None

"""Figures with their uncertainty, and tests between two models: pure functions of arrays.

Questions about one image are not independent: who gets the image wrong gets many of them wrong. What is resampled is
therefore the images, each with all its questions (the cluster bootstrap; Davison and Hinkley 1997, section 3.8).
"""

import numpy as np
from scipy.sparse import coo_array
from scipy.stats import binomtest

RESAMPLES = 2000
LEVEL = 0.95
BLOCK = 2**24  # numbers in memory at a time


class ImageBootstrap:
    """Figures of n questions with percentile intervals over resampled images.

    Every figure is a dict of `value` and the ends `low` and `high` of its interval, which are None where all resamples
    are alike: of a single image, or of images that are all right or all wrong. An interval without width would claim
    certainty, and nothing there says how other images would do.

    Args:
        images: (n,) the key of the image that each question is about.
    """

    def __init__(self, images, resamples=RESAMPLES, seed=0):
        keys, self.image_of = np.unique(np.asarray(images), return_inverse=True)
        self.images = len(keys)
        draws = np.random.default_rng(seed)
        # How often each image is in each resample; the first row is the sample itself.
        self.weights = np.ones((1 + resamples, self.images), dtype=np.uint16)
        step = max(1, BLOCK // self.images)
        for start in range(1, 1 + resamples, step):
            part = self.weights[start : start + step]
            drawn = draws.integers(0, self.images, part.shape) + self.images * np.arange(len(part))[:, None]
            part[:] = np.bincount(drawn.ravel(), minlength=part.size).reshape(part.shape)

    def sums(self, values, columns=None, width=1):
        """(R + 1, width): in each resample the sum of `values` (n,) over the questions of each column (n,)."""
        columns = np.zeros(len(self.image_of), dtype=int) if columns is None else columns
        by_image = coo_array((values, (self.image_of, columns)), shape=(self.images, width)).tocsr()
        return self.weights @ by_image

    def figure(self, values):
        """(R + 1,) values, that of the sample first, as a figure; resamples where it is NaN don't count."""
        found, tail = values[1:][~np.isnan(values[1:])], (1 - LEVEL) / 2
        low, high = map(float, np.quantile(found, [tail, 1 - tail])) if len(found) else (None, None)
        if low == high:
            low = high = None
        return {"value": float(values[0]), "low": low, "high": high}

    def mean(self, values):
        """The mean over the questions of `values` (n,), an accuracy or a difference of two."""
        values = np.asarray(values, float)
        return self.figure((self.sums(values) / self.sums(np.ones_like(values)))[:, 0])

    def macro_f1(self, truth, guesses):
        """Unweighted mean, over the answers that occur in `truth` (n,), of F1 = 2 TP / (true + guessed).

        A resample lacks rare answers more often than frequent ones, and its mean over those that it has is the higher
        for it: the resamples are shifted by their mean distance from the sample, their bias (Efron and Tibshirani 1993,
        chapter 10).
        """
        truth, guesses = np.asarray(truth, dtype=object), np.asarray(guesses, dtype=object)
        number = {answer: index for index, answer in enumerate(sorted(set(truth)))}
        width = len(number) + 1  # the last column has the guesses that are never true
        true = np.array([number[answer] for answer in truth])
        guessed = np.array([number.get(answer, len(number)) for answer in guesses])
        ones = np.ones(len(truth))
        support = self.sums(ones, true, width)[:, :-1]
        hits = self.sums((true == guessed).astype(float), true, width)[:, :-1]
        f1 = 2 * hits / np.maximum(support + self.sums(ones, guessed, width)[:, :-1], 1)
        found = f1.sum(axis=1) / (support > 0).sum(axis=1)
        found[1:] = np.clip(found[1:] - (found[1:].mean() - found[0]), 0, 1)
        return self.figure(found)

    def auc(self, labels, scores):
        """Area under the ROC curve: how often a positive question scores above a negative one, half for a tie.

        Args:
            labels: (n,) 0 or 1, both of which occur.
            scores: (n,)
        """
        levels, level = np.unique(np.asarray(scores, float), return_inverse=True)
        labels = np.asarray(labels)
        order = np.argsort(level, kind="stable")
        starts = np.searchsorted(level[order], np.arange(len(levels)))
        found = []
        for block in np.array_split(self.weights, -(-self.weights.shape[0] * len(labels) // BLOCK)):
            weights = block[:, self.image_of[order]].astype(float)
            positive, negative = (np.add.reduceat(weights * (labels[order] == k), starts, axis=1) for k in (1, 0))
            below = np.cumsum(negative, axis=1) - negative
            pairs = positive.sum(axis=1) * negative.sum(axis=1)
            with np.errstate(invalid="ignore"):  # a resample with one kind only has no area
                found.append((positive * (below + negative / 2)).sum(axis=1) / pairs)
        return self.figure(np.concatenate(found))


def mcnemar(first, second):
    """McNemar's exact test: do two models differ in which of the same questions they get right?

    Args:
        first, second: (n,) how right each is, in [0, 1]; right is above 0.5.

    Returns:
        `only_first` and `only_second`, how many questions only one gets right, and `p`, the two-sided binomial
        probability of a split at least as uneven if both were equally likely (McNemar 1947).
    """
    first, second = np.asarray(first) > 0.5, np.asarray(second) > 0.5
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    p = binomtest(only_first, discordant).pvalue if discordant else 1.0
    return {"only_first": only_first, "only_second": only_second, "p": float(p)}

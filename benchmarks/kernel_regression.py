"""Answers by kernel ridge regression on what pretrained towers make of questions and images (see kernels.py)."""

from copy import copy
from itertools import product

import numpy as np
from scipy.linalg import solve

LAYERS = (0, 2, 4, 6)  # of the text tower; 0 are its embeddings
WEIGHTS = (0, 3)  # w, of the kernel that sees the image
PENALTY = 1.0  # lambda of the ridge regression
WIDTH = 0.5  # of the exponential kernels
INSIDE = "kernel, layer and w chosen inside"


class Questions:
    """All questions with what they are answered from.

    Args:
        parts: the rows of each fold.
        text: layer -> (n, C) mean token states.
        image: (n, C) pooled vector of each question's image.
    """

    def __init__(self, parts, text, image):
        from processing.answers import normalise_answer, question_type_of

        self.fold = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        self.answers = np.array([normalise_answer(answer) for part in parts for answer in part["answer"]])
        self.types = np.array([question_type_of(answer) for answer in self.answers])
        self.images = np.array([key for part in parts for key in part["image_key"]])
        self.text, self.image = text, image

    def kernels(self, train):
        """(layer, w) -> (n, n) kernel; features are standardised as the rows `train` have them."""
        seen, found = self.cosines(self.image, train), {}
        for layer in LAYERS:
            asked = self.cosines(self.text[layer], train)
            both = np.exp((asked + seen - 2) / WIDTH)
            found |= {(layer, weight): asked + weight * both for weight in WEIGHTS}
        return found

    @staticmethod
    def cosines(vectors, train):
        known = vectors[train]
        vectors = (vectors - known.mean(axis=0)) / (known.std(axis=0) + 1e-5)
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors @ vectors.T

    def answered(self, kernel, train, asked, kind):
        """Scores (n, N) in [0, 1] of the answers of one type, learned of some rows for others; and these answers."""
        train = train[self.types[train] == kind]
        names = np.array(["no", "yes"]) if kind == 0 else np.unique(self.answers[train])
        targets = (self.answers[train][:, None] == names).astype(float)
        level = targets.mean(axis=0)
        system = kernel[np.ix_(train, train)] + PENALTY * np.eye(len(train))
        scores = kernel[np.ix_(asked, train)] @ solve(system, targets - level, assume_a="pos") + level
        return scores.clip(0, 1), names

    def right(self, kernel, train, asked, kind):
        """How many rows of this type are answered right."""
        asked = asked[self.types[asked] == kind]
        scores, names = self.answered(kernel, train, asked, kind)
        return int((names[scores.argmax(axis=1)] == self.answers[asked]).sum())

    def choose(self, fold):
        """Of each type the (layer, w) that does best on the folds besides this one, each held out from the others."""
        right = [dict.fromkeys(product(LAYERS, WEIGHTS), 0) for _ in (0, 1)]
        for inner in sorted(set(self.fold) - {fold}):
            train = np.flatnonzero((self.fold != fold) & (self.fold != inner))
            asked = np.flatnonzero(self.fold == inner)
            for key, kernel in self.kernels(train).items():
                for kind in (0, 1):
                    right[kind][key] += self.right(kernel, train, asked, kind)
        return [max(found, key=found.get) for found in right]

    def said(self, fold):
        """Name of a line -> the scores of both types for the rows of this fold; and the names of the answers."""
        asked, train = (np.flatnonzero(found) for found in (self.fold == fold, self.fold != fold))
        kernels, chosen = self.kernels(train), self.choose(fold)
        scores = {
            f"kernel, layer {layer}, {'question and image' if weight else 'the question alone'}": [
                self.answered(kernels[layer, weight], train, asked, kind)[0] for kind in (0, 1)
            ]
            for weight in WEIGHTS
            for layer in LAYERS
        }
        scores[INSIDE] = [self.answered(kernels[chosen[kind]], train, asked, kind)[0] for kind in (0, 1)]
        return scores, self.answered(kernels[0, 0], train, asked, 1)[1]

    def cut(self, seed):
        """The same questions in other folds."""
        from processing.splits import one_fold

        folds, units = len(set(self.fold)), [(image, "") for image in self.images]
        other = copy(self)
        for fold in range(folds):
            held = sorted(one_fold(units, "image", folds, fold, seed))
            other.fold = np.where(np.isin(self.images, held), fold, other.fold)
        return other

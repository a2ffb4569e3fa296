"""Rows and logits that tests of the report share."""

import numpy as np
from datasets import Dataset
from helpers import ANSWERS

ORGANS = ["head", "chest"]


def canonical(count, seed, images, answers=("yes", "no", *ANSWERS, "purple")):
    """Questions about some images, with one answer each or those of several people."""
    rng = np.random.default_rng(seed)
    truth = [answers[number] for number in rng.integers(0, len(answers), count)]
    people = [[a, a, answers[rng.integers(0, 3)]] if n % 4 == 0 else [a] for n, a in enumerate(truth)]
    return Dataset.from_dict(
        {
            "image": [{"bytes": None, "path": "gone.png"}] * count,
            "question": [f"is it {a}?" if a in ("yes", "no") else f"what is it, {n % 7}?" for n, a in enumerate(truth)],
            "answer": people,
            "image_key": [f"image {number}" for number in rng.integers(*images, count)],
            "row": list(range(100, 100 + count)),
            "organ": [ORGANS[n % 2] for n in range(count)],
            "id": [str(n) for n in range(count)],
        }
    )


def random_logits(rows, seed):
    """Arrays as the Trainer has them, somewhat right."""
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(len(rows), width)).astype(np.float32) for width in (2, len(ANSWERS), 2)]
    for index, (first, *_) in enumerate(rows["answer"]):
        place = ("no", "yes", *ANSWERS).index(first) if first != "purple" else None
        arrays[2][index, 0 if first in ("yes", "no") else 1] += 1.5
        if place is not None:
            arrays[min(place // 2, 1)][index, place if place < 2 else place - 2] += 1
    return tuple(arrays)

"""A saved model's memory of which questions it was trained on: a sketch of a few kilobytes, whatever their number.

The smallest hashes of a set are a sample of it in which members can be told (bottom-k sketch, Cohen and Kaplan 2007):
of other rows those with hashes below the largest of them either are in the sketch, or were not in the set.
"""

import hashlib

from .rewordings import wording

KEPT = 512
DIGITS = 10  # of a hash: among a million other questions, 512 hashes are met once in a thousand times by chance


def hashes_of(rows):
    """The hash of each row's image and question, in hexadecimal digits."""
    pairs = zip(rows["image_key"][:], rows["question"][:])
    return [hashlib.sha256(f"{image}\n{wording(question)}".encode()).hexdigest()[:DIGITS] for image, question in pairs]


def sketch_of(rows, earlier=None):
    """The sketch of canonical training rows, one text.

    Args:
        earlier: the sketch of what the model was trained on before.
    """
    return "".join(sorted({*hashes_of(rows), *split(earlier)})[:KEPT])


def trained_share(rows, sketch):
    """How many of some canonical rows were trained on, by the `sketch_of` the training rows.

    Returns:
        How many rows the sketch can tell of, and how many of these were trained on.
    """
    known, members = split(sketch), set(split(sketch))
    largest = known[-1] if len(known) == KEPT else "g"  # of fewer all are kept
    told = [one for one in hashes_of(rows) if one <= largest]
    return len(told), sum(one in members for one in told)


def split(sketch):
    return [sketch[start : start + DIGITS] for start in range(0, len(sketch or ""), DIGITS)]

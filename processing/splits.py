"""Parts of a data set that have no image in common, and what of one part is in another."""

import hashlib

from .answers import consensus


def split_by_image(dataset, fraction, seed):
    """Two parts of `dataset` without a common image: about 1 - `fraction` and `fraction` of the images.

    Raises:
        ValueError: fewer than two different images.
    """
    keys = shuffled_images(dataset, seed, 2)
    return hold_out(dataset, keys[: max(1, round(fraction * len(keys)))])


def fold_of(dataset, folds, fold, seed):
    """The two parts of cross-validation's round `fold`, from 0. Every image is held out in one of the `folds` rounds.

    Raises:
        ValueError: fewer images than folds.
    """
    return hold_out(dataset, shuffled_images(dataset, seed, folds)[fold::folds])


def shuffled_images(dataset, seed, least):
    """The different image keys, in an order that depends on them and the seed alone."""
    keys = set(dataset["image_key"][:])
    if len(keys) < least:
        raise ValueError(f"a validation part by image needs at least {least} different images, found {len(keys)}")
    return sorted(keys, key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest())


def hold_out(dataset, keys):
    """The rows about other images, and those about these."""
    keys, parts = set(keys), {True: [], False: []}
    for index, key in enumerate(dataset["image_key"][:]):
        parts[key in keys].append(index)
    return dataset.select(parts[False]), dataset.select(parts[True])


def fraction_of(dataset, fraction, seed):
    """About `fraction` of the rows, in their order; of a smaller fraction and the same seed they are a part."""
    order = sorted(range(len(dataset)), key=lambda row: hashlib.sha256(f"{seed} {row}".encode()).digest())
    return dataset.select(sorted(order[: max(1, round(fraction * len(dataset)))]))


def leakage_report(train, evaluation):
    """How much of an evaluation part was already in the training part.

    Returns:
        A dict: `images`, `images_seen` (different images), `questions`, and how many questions have their image
        and answer (`image_answer_pairs_seen`), and their image, question and answer (`examples_seen`) in training.
    """
    pairs = set(zip(train["image_key"][:], map(consensus, train["answer"][:])))
    examples = set(zip(train["image_key"][:], train["question"][:], map(consensus, train["answer"][:])))
    seen = set(train["image_key"][:])
    answers = [consensus(answer) for answer in evaluation["answer"][:]]
    keys = evaluation["image_key"]
    return {
        "images": len(set(keys)),
        "images_seen": len(set(keys) & seen),
        "questions": len(evaluation),
        "image_answer_pairs_seen": sum(pair in pairs for pair in zip(keys, answers)),
        "examples_seen": sum(row in examples for row in zip(keys, evaluation["question"][:], answers)),
    }

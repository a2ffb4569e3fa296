"""Parts of a data set that are held out by image, by question or by wording, and what of one part is in another."""

import hashlib
from collections import Counter

from .rewordings import question_groups, wording

WAYS = {  # what is held out, for messages
    "image": "different images",
    "question": "questions about images that have other questions too",
    "wording": "wordings of questions that are asked in other words too, about the same image",
}


def split_dataset(dataset, args):
    """A training and a validation part of canonical rows, as some arguments say.

    - by image: all questions about an image are in one part, so images are new.
    - by question: images are known, questions about them are new; rewordings stay together.
    - by wording: of a question that is asked in several wordings about the same image some are held out, and at
      least one is trained on. Questions asked in one way alone are trained on.

    A part that is held out depends on `split_seed` and on what is asked about which image, not on the rows' order.

    Args:
        dataset: canonical rows.
        args: [`DataArguments`]: `split_by`, `validation_fraction` or `folds` and `fold`, `split_seed` and
            `question_group_column`.

    Raises:
        ValueError: too few images, questions or wordings; no such column.
    """
    units = units_of(dataset, args.split_by, args.question_group_column)
    if args.folds:
        held = one_fold(units, args.split_by, args.folds, args.fold, args.split_seed)
    else:
        held = share_of(units, args.split_by, args.validation_fraction, args.split_seed)
    return hold_out(dataset, units, held)


def split_by_image(dataset, fraction, seed):
    """Two parts of `dataset` without a common image: about 1 - `fraction` and `fraction` of the images.

    Raises:
        ValueError: fewer than two different images.
    """
    units = units_of(dataset, "image")
    return hold_out(dataset, units, share_of(units, "image", fraction, seed))


def fold_of(dataset, folds, fold, seed):
    """The two parts of cross-validation's round `fold`, from 0. Every image is held out in one of the `folds` rounds.

    Raises:
        ValueError: fewer images than folds.
    """
    units = units_of(dataset, "image")
    return hold_out(dataset, units, one_fold(units, "image", folds, fold, seed))


def units_of(dataset, way, column=None):
    """For each row a pair: what is held out as one, and what it is one of; of the latter some is always trained on.

    Raises:
        ValueError: the data lack the column, or are raw.
    """
    check_column(dataset.column_names, column)
    if "image_key" not in dataset.column_names:
        found = ", ".join(dataset.column_names)
        raise ValueError(f"expected rows as prepare_dataset(rows) gives them, found raw ones with the columns {found}")
    images = dataset["image_key"][:]
    if way == "image":
        return [(image, "") for image in images]
    groups = question_groups(dataset, column)
    if way == "question":
        return list(zip(groups, images))
    asked = zip(groups, dataset["question"][:])
    return [(f"{group}\n{wording(question)}", group) for group, question in asked]  # no group's name has a line's end


def check_column(names, column):
    """
    Raises:
        ValueError: rewordings are told by a column that isn't there.
    """
    if column is not None and column not in names:
        raise ValueError(f"--question_group_column: the data have no column {column!r}; there are {', '.join(names)}")


def candidates(units, way, least):
    """The different units that may be held out, and how many their whole has.

    Raises:
        ValueError: fewer than `least`.
    """
    several = Counter(whole for _, whole in set(units))
    found = {(unit, whole) for unit, whole in units if several[whole] > 1}
    if len(found) < least:
        raise ValueError(
            f"a validation part by {way} needs at least {least} {WAYS[way]}, found {len(found)}; give other data, "
            + ("fewer --folds, " if least > 2 else "")
            + ("another --split_by" if way != "image" else "or --validation_fraction 0")
        )
    return found, several


def share_of(units, way, share, seed):
    """About this share of the units that may be held out, at least one, drawn by the seed."""
    found, left = candidates(units, way, 2)
    held = set()
    for unit, whole in sorted(found, key=lambda pair: digest(seed, pair[0])):
        if len(held) < max(1, round(share * len(found))) and left[whole] > 1:
            held.add(unit)
            left[whole] -= 1
    return held


def one_fold(units, way, folds, fold, seed):
    """One of so many equal parts of the units that may be held out; no part has all that are one whole."""
    found, _ = candidates(units, way, folds)
    order = sorted(found, key=lambda pair: (digest(seed, pair[1]), digest(seed, pair[0])))  # a whole's in a row
    return {unit for unit, _ in order[fold::folds]}


def digest(seed, text):
    return hashlib.sha256(f"{seed} {text}".encode()).digest()


def hold_out(dataset, units, held):
    """The rows of other units, and those of these."""
    parts = {True: [], False: []}
    for index, (unit, _) in enumerate(units):
        parts[unit in held].append(index)
    return dataset.select(parts[False]), dataset.select(parts[True])


def fraction_of(dataset, fraction, seed):
    """About `fraction` of the rows, in their order; of a smaller fraction and the same seed they are a part."""
    order = sorted(range(len(dataset)), key=lambda row: hashlib.sha256(f"{seed} {row}".encode()).digest())
    return dataset.select(sorted(order[: max(1, round(fraction * len(dataset)))]))

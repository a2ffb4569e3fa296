"""Any source of pictures, questions and answers -> a DatasetDict with the canonical columns.

Canonical columns: `image` (datasets.Image, not decoded), `question`, `answer` where there are answers, `image_key`
(hash of the picture's bytes, so one picture has one key whatever its file is called) and `row` (its number in the
source, from 0). The source's other columns stay beside them.
"""

import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor

from datasets import Dataset, DatasetDict, Image, concatenate_datasets, get_dataset_split_names, load_dataset

from .data_arguments import DataArguments
from .files import read_file, to_text
from .image_loading_dualvqa import embedded, load_image
from .image_sources_dualvqa import FILES
from .splits import fold_of, fraction_of, split_by_image

__all__ = ["BadExampleError", "DataArguments", "prepare_datasets", "read_file", "to_text"]

logger = logging.getLogger(__name__)


class BadExampleError(ValueError):
    """A row that can't be used, named by its number and path."""


def load_sources(args):
    """The rows as their source has them: part -> Dataset.

    Raises:
        ValueError: no source, a file of another kind, an unreadable file, or one with no rows.
    """
    if args.files:
        raw = {part: read_file(path) for part, path in args.files.items() if part != "train" or not args.streaming}
    elif args.streaming:  # the training part stays where it is
        parts = set(get_dataset_split_names(args.dataset_name, args.dataset_config_name)) - {"train"}
        raw = {part: load_dataset(args.dataset_name, args.dataset_config_name, split=part) for part in sorted(parts)}
    elif args.dataset_name in ("easy_vqa", "easy-vqa"):
        raw = load_easy_vqa()
    elif args.dataset_name:
        raw = dict(load_dataset(args.dataset_name, args.dataset_config_name))
    else:
        raise ValueError("no data: give --train_file, --validation_file or --test_file, or --dataset_name")
    for part, rows in raw.items():
        if not len(rows):
            raise ValueError(f"{args.files.get(part, f'the {part} part')} has no rows")
    return raw


def load_easy_vqa():
    """The official parts of easy-VQA (Zhou 2019), from the package that carries them.

    Raises:
        ImportError: the package is not installed.
    """
    try:
        import easy_vqa
    except ImportError as error:
        raise ImportError("easy_vqa needs its package: pip install easy-vqa") from error
    parts = {}
    for part in ("train", "test"):
        questions, answers, image_ids = getattr(easy_vqa, f"get_{part}_questions")()
        paths = getattr(easy_vqa, f"get_{part}_image_paths")()
        images = [paths[image_id] for image_id in image_ids]
        parts[part] = Dataset.from_dict({"image": images, "question": questions, "answer": answers})
    return parts


def prepare_part(raw, part, args, needs_answers=True):
    """Checks every row of one part and brings it to the canonical columns.

    Args:
        raw: the Dataset as its source has it.
        part: its name, for messages.
        args: [`DataArguments`].
        needs_answers: whether a row without an answer is a bad one.

    Returns:
        The canonical Dataset, and a list of the rows left out: dicts with `part`, `row` (from 1, as a
        person counts), `image` and `problem`.

    Raises:
        ValueError: a column is missing, or no row is left.
        BadExampleError: a row is bad and `on_bad_example` is "error".
    """
    source = args.files.get(part, f"the {part} part of {args.dataset_name}")
    columns = {"image": args.image_column, "question": args.text_column}
    if args.reads_answers and (needs_answers or args.answer_column in raw.column_names):
        columns["answer"] = args.answer_column
    for name, column in columns.items():
        if column not in raw.column_names:
            raise ValueError(
                f"{source} has no column {column!r} (it has {', '.join(raw.column_names)}); "
                f"name the right one with --{column_flag(name, args)}"
            )
    # Every row of a test part is answered, whatever training leaves out.
    rows = wanted_rows(raw, args.exclude_rows if part != "test" else [], source)
    raw = raw.select(rows)
    if isinstance(raw.features[args.image_column], Image):
        raw = raw.cast_column(args.image_column, Image(decode=False))
    images = [find_image(image, args.image_dir) for image in raw[args.image_column]]
    questions = [to_text(value) or "" for value in raw[args.text_column]]
    answers = [to_text(value) for value in raw[args.answer_column]] if "answer" in columns else None
    if answers and not needs_answers and not all(map(has_answer, answers)):
        logger.warning("%s has rows without an answer: it is predicted, not scored", source)
        answers = None

    keys = image_keys(images)
    problems = {}
    for index, question in enumerate(questions):
        if isinstance(keys[index], Exception):
            problems[index] = f"unreadable image: {keys[index]}"
        elif not question.strip():
            problems[index] = "empty question"
        elif needs_answers and not has_answer(answers[index]):
            problems[index] = "no answer"
    bad = [
        {"part": part, "row": rows[index] + 1, "image": image_name(images[index]), "problem": problem}
        for index, problem in problems.items()
    ]
    if bad and args.on_bad_example == "error":
        first = bad[0]
        raise BadExampleError(
            f"{source}, row {first['row']} ({first['image']}): {first['problem']}"
            + (f"; {len(bad) - 1} more bad rows" if len(bad) > 1 else "")
            + ". Mend it, or leave such rows out with --on_bad_example skip"
        )
    good = [index for index in range(len(rows)) if index not in problems]
    if not good:
        raise ValueError(f"{source} has no rows left: {len(bad)} bad, {len(rows)} after --exclude_rows")

    canonical = {"image": images, "question": questions, "answer": answers, "image_key": keys, "row": rows}
    canonical = {name: [values[i] for i in good] for name, values in canonical.items() if values is not None}
    if "answer" in canonical:
        canonical["question"] = list(map(args.text, canonical["question"], canonical["answer"]))
    dataset = Dataset.from_dict(canonical).cast_column("image", Image(decode=False))
    taken = {*columns.values(), *canonical}
    own = [name for name in raw.column_names if name not in taken]
    if own:
        dataset = concatenate_datasets([dataset, raw.select_columns(own).select(good)], axis=1)
    return dataset, bad


def column_flag(name, args):
    """The flag that names a canonical column's source."""
    return "pretrain_text_column" if name == "question" and args.pretrain_text_column else f"{name}_column"


def wanted_rows(raw, rules, source):
    """Numbers of the rows that no column=value rule excludes."""
    excluded = set()
    for rule in rules:
        column, value = rule.split("=", 1)
        if column not in raw.column_names:
            logger.warning("%s has no column %s: --exclude_rows %s leaves nothing out", source, column, rule)
            continue
        excluded.update(row for row, found in enumerate(raw[column]) if str(found) == value)
    return [row for row in range(len(raw)) if row not in excluded]


def find_image(image, image_dir):
    """An image column's value as a path from where we are, or as a dict with the picture's bytes."""
    if isinstance(image, bytes):
        return {"bytes": image, "path": None}
    if isinstance(image, dict):
        return image
    path = to_text(image) or ""
    return os.path.join(image_dir, path) if image_dir and path else path


def image_name(image):
    return image if isinstance(image, str) else image.get("path") or "embedded image"


def has_answer(answer):
    answers = answer if isinstance(answer, list) else [answer]
    return any(text and text.strip() for text in answers)


def image_keys(images):
    """For each image its key, or the exception that reading it raised. Each different file is read once."""
    files = [image for image in images if isinstance(image, str)]
    with ThreadPoolExecutor() as pool:
        known = dict(zip(dict.fromkeys(files), pool.map(image_key, dict.fromkeys(files))))
    return [known[image] if isinstance(image, str) else image_key(image) for image in images]


def image_key(image, sources=FILES):
    """Hash of an image's bytes, after loading it once as every later use of it does; else the ValueError."""
    try:
        content = sources.read(embedded(image) if isinstance(image, dict) else image)
        load_image(content, sources)
        return hashlib.sha256(content).hexdigest()[:16]
    except ValueError as error:
        return error


def prepare_datasets(args, needs_training=True):
    """Loads and checks all parts before anything long starts.

    Args:
        args: [`DataArguments`].
        needs_training: whether a training part must exist; without it none is made. Where there is no other part
            either, the validation part is the one that training would have held out. With `streaming` there is no
            training part here: see `StreamedRows`.

    Returns:
        DatasetDict with the canonical columns; the raw parts (for prediction files); the rows left out.
    """
    raw = load_sources(args)
    needs_training = needs_training and not args.streaming
    if needs_training and "train" not in raw:
        raise ValueError(f"training and --fit_familiarity need a train part, found {', '.join(raw)}; give --train_file")
    if args.folds and "validation" in raw:
        raise ValueError("--folds cuts the training part, and the data have a validation part of their own")
    splits = "validation" not in raw and (args.folds or args.validation_fraction) and not args.streaming
    splits = splits and (needs_training or set(raw) == {"train"})
    if not needs_training and not splits:
        raw.pop("train", None)
    if args.pretrain:
        raw.pop("test", None)  # neither read nor scored: it is kept for what comes after
    parts, bad = {}, []
    for part, rows in raw.items():
        parts[part], left_out = prepare_part(rows, part, args, needs_answers=part != "test" and args.reads_answers)
        bad += left_out
    if splits:
        train = parts["train"]
        if args.folds:
            parts["train"], parts["validation"] = fold_of(train, args.folds, args.fold, args.split_seed)
        else:
            parts["train"], parts["validation"] = split_by_image(train, args.validation_fraction, args.split_seed)
        raw["validation"] = raw["train"]
    if not needs_training:
        parts.pop("train", None)
    elif args.train_fraction < 1:
        parts["train"] = fraction_of(parts["train"], args.train_fraction, args.split_seed)
    return DatasetDict(parts), raw, bad

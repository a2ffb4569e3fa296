"""Any source of images, questions and answers -> a DatasetDict with the canonical columns.

Canonical columns: `image` (datasets.Image, not decoded), `question`, `answer` where there are answers, `image_key`
(hash of the image's bytes, so one image has one key whatever its file is called), `row` (its number in the source,
from 0) and `row_place` (where the program that a person opens the file with shows it). The source's other columns stay
beside them.
"""

import logging
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pyarrow
from datasets import Dataset, DatasetDict, Image
from datasets.exceptions import DatasetsError

from .bad_rows import BadExampleError, BadRows, image_name
from .canonical import BadCellError, RowReader, find_image, to_text
from .columns import check_once, find_columns
from .data_arguments import DataArguments
from .exclusion import Exclusion, check_rules
from .files import read_file
from .hub_data import load_hub
from .image_keys import content_key
from .image_loading_dualvqa import embedded, load_image
from .image_sources_dualvqa import FILES
from .missing_images import hints_of_missing
from .own_scores import check_scored
from .places import counted
from .public_sets import close_set, load_public_set, set_name
from .rows import column_values, own_columns
from .splits import check_column, fraction_of, split_dataset
from .wording import worded

__all__ = ["BadExampleError", "DataArguments", "find_image", "prepare_datasets", "read_file", "to_text"]

logger = logging.getLogger(__name__)

UNANSWERED = (
    "{:,} of {:,} rows have no answer to be scored by: fill it in, or take them out; `dualvqa predict` answers them "
    "all, without a score"
)


def load_sources(args):
    """The rows as their source has them: part -> Dataset.

    Raises:
        ValueError: no source, a file of another kind, an unreadable file, or one with no rows.
    """
    if args.files:
        raw = {
            part: read_file(path, args) for part, path in args.files.items() if part != "train" or not args.streaming
        }
    elif set_name(args.dataset_name) == "easy_vqa" and not args.data_dir and not args.streaming:
        raw = load_easy_vqa()
    elif set_name(args.dataset_name) and not args.streaming:
        raw = load_public_set(args)
    elif args.dataset_name:
        try:
            raw = load_hub(args)
        except (OSError, ValueError, tarfile.TarError, DatasetsError, pyarrow.ArrowException) as error:
            hint = close_set(args.dataset_name)
            raise ValueError(f"--dataset_name {args.dataset_name} can't be loaded: {error}{hint}") from error
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


def prepare_part(raw, part, args, needs_answers=True, source=None):
    """Checks every row of one part and brings it to the canonical columns.

    Args:
        raw: the rows as their source has them: [`JsonRows`], [`PythonRows`] or a Dataset.
        part: its name, for messages.
        args: [`DataArguments`].
        needs_answers: whether a row without an answer is a bad one; "if_any", where another row has one.
        source: what messages call it; the file or the data set of the arguments when left out.

    Returns:
        The canonical Dataset, and a list of the rows left out: see [`BadRows`].

    Raises:
        ValueError: a column is missing, or no row is left.
        BadExampleError: a row is bad and `on_bad_example` is "error".
    """
    source = source or args.files.get(part, f"the {part} part of {args.dataset_name}")
    args.known_columns = args.known_columns.union(raw.column_names)
    columns = find_columns(raw.column_names, source, args, needs_answers is True)
    check_once(columns.values(), getattr(raw, "repeated", ()), source)
    if part == "train":
        args.found_columns = columns
    # Every row of a test part is answered, whatever training leaves out.
    rows = wanted_rows(raw, args.exclude_rows if part != "test" else [], source)
    cells = column_values(raw, set(columns.values()))
    cells = {name: [cells[column][row] for row in rows] for name, column in columns.items()}
    reader = RowReader(args, source, getattr(raw, "all_text", False))
    canonical, problems = read_cells(cells, columns, reader)
    answers, hints = canonical.get("answer"), []
    if needs_answers == "if_any":
        unanswered = len(rows_without(answers or []))
        needs_answers = bool(answers) and unanswered < len(rows)
        hints = [UNANSWERED.format(unanswered, len(rows))] if needs_answers and unanswered else []
    if answers and not needs_answers and None in answers:
        logger.warning("%s has rows without an answer: it is predicted, not scored", source)
        answers, reader.gaps = canonical.pop("answer"), 0
        problems["answer"] = {}
    elif answers:
        problems["answer"] = {**dict.fromkeys(rows_without(answers), "no answer"), **problems["answer"]}
    names = places_of(raw).name
    reader.report(lambda index: f"{names(rows[index])} ({image_name(canonical['image'][index])})")

    of_rows = getattr(raw, "problems", {})
    problems = {"row": {index: of_rows[row] for index, row in enumerate(rows) if row in of_rows}, **problems}
    problems = {index: problem for of_column in reversed(problems.values()) for index, problem in of_column.items()}
    readable = [index for index in range(len(rows)) if canonical["image"][index] is not None]
    canonical["image_key"], missing = [None] * len(rows), []
    for index, key in zip(readable, image_keys([canonical["image"][index] for index in readable], args.image_sources)):
        canonical["image_key"][index] = key
        if isinstance(key, Exception):
            problems[index] = f"unreadable image: {key}"
            if isinstance(key.__cause__, FileNotFoundError):
                missing.append(canonical["image"][index])
    bad = listed(problems, rows, part, raw, canonical["image"])
    hints += hints_of_missing(missing, args.image_dir, args.files.get(part))
    if bad and args.on_bad_example == "error":
        raise BadExampleError.of([BadRows(source, bad, len(rows), hints)])
    good = [index for index in range(len(rows)) if index not in problems]
    if not good:
        few = f"; {BadExampleError.of([BadRows(source, bad, len(rows), hints)])}" if bad else ""
        raise ValueError(f"{source} has no rows left: {len(bad)} bad, {len(rows)} after --exclude_rows{few}")
    for hint in hints:
        logger.warning("%s: %s", source, worded(hint))

    canonical["row"], canonical["row_place"] = rows, list(map(names, rows))
    canonical = {name: [values[index] for index in good] for name, values in canonical.items()}
    if "answer" in canonical:
        canonical["question"] = list(map(args.text, canonical["question"], canonical["answer"]))
        if any(isinstance(answer, list) for answer in canonical["answer"]):  # one type for all
            canonical["answer"] = [[a] if isinstance(a, str) else a for a in canonical["answer"]]
    taken = {*columns.values(), *canonical}
    own = own_columns(raw, [name for name in raw.column_names if name not in taken], canonical["row"])
    canonical["image"] = [{"path": i, "bytes": None} if isinstance(i, str) else i for i in canonical["image"]]
    return Dataset.from_dict({**canonical, **own}).cast_column("image", Image(decode=False)), bad


def read_cells(cells, columns, reader):
    """The canonical values of each column, None for what is none, and for each column row -> what is wrong."""
    canonical, problems = {}, {}
    for name, values in cells.items():
        read, found, problems[name] = getattr(reader, name), [], {}
        for index, value in enumerate(values):
            try:
                found.append(read(value))
            except BadCellError as error:
                found.append(None)
                problems[name][index] = f"column {columns[name]!r}: {error}"
        canonical[name] = found
    return canonical, problems


def listed(problems, rows, part, raw, images):
    """The bad rows as messages and files list them: see [`BadRows`].

    Args:
        problems: index -> what is wrong.
        rows, images: for each index the row's number in `raw`, and its image.
    """
    places = places_of(raw)
    found = sorted(problems.items())
    where = [(places.number(rows[index]), places.name(rows[index])) for index, _ in found]
    return [
        {"part": part, "row": row, "place": place, "image": image_name(images[index]), "problem": problem}
        for (row, place), (index, problem) in zip(where, found)
    ]


def places_of(raw):
    """The [`Places`] of the rows of a source."""
    return getattr(raw, "places", None) or counted(len(raw))


def rows_without(answers):
    return [index for index, answer in enumerate(answers) if answer is None]


def wanted_rows(raw, rules, source):
    """Numbers of the rows that no column=value rule excludes."""
    exclusion = Exclusion(rules, source, raw.column_names)
    if not exclusion.columns:
        return list(range(len(raw)))
    columns = column_values(raw, exclusion.columns)
    rows = (dict(zip(columns, values)) for values in zip(*columns.values()))
    wanted = [number for number, row in enumerate(rows) if not exclusion.leaves_out(row)]
    exclusion.report()
    return wanted


def image_keys(images, sources=FILES):
    """For each image its key, or the exception that reading it raised. Each different file is read once."""
    files = dict.fromkeys(image for image in images if isinstance(image, str))
    with ThreadPoolExecutor() as pool:
        known = dict(zip(files, pool.map(lambda file: image_key(file, sources), files)))
    return [known[image] if isinstance(image, str) else image_key(image, sources) for image in images]


def image_key(image, sources=FILES):
    """Hash of an image's bytes, after loading it once as every later use of it does; else the ValueError."""
    try:
        content = sources.read(embedded(image) if isinstance(image, dict) else image)
        load_image(content, sources)
        return content_key(content)
    except ValueError as error:
        return error


def prepare_datasets(args, needs_training=True, keeps_training=False, scores_test=False):
    """Loads and checks all parts before anything long starts.

    Args:
        args: [`DataArguments`].
        needs_training: whether a training part must exist; without it none is made. Where there is no other part
            either, the validation part is the one that training would have held out. With `streaming` there is no
            training part here: see `StreamedRows`.
        keeps_training: whether a training part that there is is read anyway, to be compared with; nothing is cut off it
            for that.
        scores_test: whether the test part is there to be scored: where some of its rows have answers, those without one
            are bad rows. Otherwise such a part is predicted, not scored.

    Returns:
        DatasetDict with the canonical columns; the raw parts (for prediction files); the rows left out.
    """
    raw = load_sources(args)
    args.known_columns = args.known_columns.union(*(rows.column_names for rows in raw.values()))
    needs_training = needs_training and not args.streaming
    if needs_training and "train" not in raw:
        raise ValueError(f"training and --fit_familiarity need a train part, found {', '.join(raw)}; give --train_file")
    if args.folds and "validation" in raw:
        raise ValueError("--folds cuts the training part, and the data have a validation part of their own")
    if args.split_by != "image" and "validation" in raw:
        raise ValueError(f"--split_by {args.split_by} cuts the training part, and the data have a validation part")
    if "train" in raw:
        check_column(raw["train"].column_names, args.question_group_column)
    splits = "validation" not in raw and (args.folds or args.validation_fraction) and not args.streaming
    splits = splits and (needs_training or set(raw) == {"train"})
    args.cuts_validation = bool(splits)
    kept = needs_training or (keeps_training and not args.streaming)
    if not kept and not splits:
        raw.pop("train", None)
    if args.pretrain:
        raw.pop("test", None)  # neither read nor scored: it is kept for what comes after
    parts, bad, refused = {}, [], []
    if not args.streaming and set(raw) - {"test"} and "exclude_rows" not in args.from_recipe:
        check_rules(args.exclude_rows, [name for part in raw if part != "test" for name in raw[part].column_names])
    for part, rows in raw.items():
        try:
            needs_answers = args.reads_answers if part != "test" else scores_test and "if_any"
            parts[part], left_out = prepare_part(rows, part, args, needs_answers)
            bad += left_out
        except BadExampleError as error:  # all of them are told at once
            refused += error.parts
    if refused:
        raise BadExampleError.of(refused)
    if splits:
        parts["train"], parts["validation"] = split_dataset(parts["train"], args)
        raw["validation"] = raw["train"]
    if not kept:
        parts.pop("train", None)
    elif args.train_fraction < 1 and "train" in parts:
        parts["train"] = fraction_of(parts["train"], args.train_fraction, args.split_seed)
    for part in ("validation", "test"):
        if part in parts and "answer" in parts[part].column_names:
            places = getattr(raw[part], "places", None) or counted(len(raw[part]))
            source = args.files.get(part, f"the {part} part")
            check_scored(args.rules.metric, parts[part], source, places)
    return DatasetDict(parts), raw, bad

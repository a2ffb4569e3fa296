"""Any source of pictures, questions and answers -> a DatasetDict with the canonical columns.

Canonical columns: `image` (datasets.Image, not decoded), `question`, `answer` where there are answers, `image_key`
(hash of the picture's bytes, so one picture has one key whatever its file is called) and `row` (its number in the
source, from 0). The source's other columns stay beside them.
"""

import hashlib
import io
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pandas
from datasets import Dataset, DatasetDict, Image, concatenate_datasets, get_dataset_split_names, load_dataset
from PIL import Image as PILImage

from .answers import consensus
from .splits import fold_of, fraction_of, split_by_image

logger = logging.getLogger(__name__)

READERS = {
    ".jsonl": lambda path: pandas.read_json(path, lines=True, dtype=False),
    ".json": lambda path: pandas.read_json(path, dtype=False),
    ".csv": lambda path: pandas.read_csv(path, keep_default_na=False, dtype=str),  # "none" and "NA" are answers
    ".parquet": pandas.read_parquet,
}


@dataclass
class DataArguments:
    """Where the examples come from, and which of them are used."""

    dataset_name: str | None = field(
        default=None, metadata={"help": "Hub id of a data set, or easy_vqa for the package's. Files take precedence."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of the Hub data set."})
    train_file: str | None = field(default=None, metadata={"help": "JSON Lines, JSON, CSV or Parquet file."})
    validation_file: str | None = field(default=None, metadata={"help": "Likewise, for evaluation while training."})
    test_file: str | None = field(default=None, metadata={"help": "Likewise, for prediction; answers are optional."})
    image_dir: str | None = field(default=None, metadata={"help": "Folder that relative image paths start from."})
    image_column: str = field(default="image", metadata={"help": "Column with image paths or images."})
    question_column: str = field(default="question", metadata={"help": "Column with the questions."})
    answer_column: str = field(default="answer", metadata={"help": "Column with an answer or a list of answers."})
    pretrain: str | None = field(
        default=None,
        metadata={
            "help": "contrastive: train towers and projections to tell which text belongs to which image, for a folder "
            "to start from with --model_name_or_path. A row's text is its question and answer, in one."
        },
    )
    pretrain_text_column: str | None = field(
        default=None, metadata={"help": "With --pretrain: column with the text, a caption; answers are not read then."}
    )
    exclude_rows: list[str] = field(
        default_factory=list,
        metadata={"help": "Leave out training and validation rows: column=value, as often as wanted."},
    )
    validation_fraction: float = field(
        default=0.1, metadata={"help": "Share of the training images kept for validation where there is none."}
    )
    split_seed: int = field(
        default=0, metadata={"help": "Seed of that split and of --train_fraction; the run's own doesn't touch it."}
    )
    folds: int | None = field(
        default=None,
        metadata={
            "help": "For cross-validation: cut the images into so many folds in place of --validation_fraction, and "
            "keep the one that --fold names for validation."
        },
    )
    fold: int = field(default=0, metadata={"help": "Which of the folds, from 0."})
    train_fraction: float = field(
        default=1.0,
        metadata={"help": "Share of the training questions that are used, drawn by split_seed after the split."},
    )
    on_bad_example: str = field(
        default="error",
        metadata={"help": "Stop at an unreadable image, empty question or lacking answer, or leave such rows out."},
    )
    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read training rows while training goes on, from Parquet files (a pattern as --train_file) or the "
            "Hub, for data that don't fit in memory. Validation and test parts are read as always."
        },
    )
    shuffle_buffer: int = field(default=1000, metadata={"help": "With --streaming: rows that are shuffled at a time."})
    image_cache: bool = field(
        default=True, metadata={"help": "Decode and resize the images of a training run once and keep the pixels."}
    )
    image_cache_dir: str | None = field(
        default=None,
        metadata={
            "help": "Where they are kept; image_cache in the output folder when left out. A folder of its own can be "
            "shared by several runs."
        },
    )
    image_cache_gib: float = field(
        default=8.0, metadata={"help": "Largest size of a part's pixels; never more than half of the free disk."}
    )
    min_answer_frequency: int = field(default=1, metadata={"help": "How often a training answer must occur."})
    max_answers: int | None = field(default=None, metadata={"help": "Largest size of the answer vocabulary."})

    def __post_init__(self):
        if self.on_bad_example not in ("error", "skip"):
            raise ValueError(f"on_bad_example must be error or skip, found {self.on_bad_example!r}")
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must be in [0, 1), found {self.validation_fraction}")
        if self.folds is None and self.fold:
            raise ValueError(f"--fold {self.fold} needs --folds, the number of them")
        if self.folds is not None and not (self.folds > 1 and 0 <= self.fold < self.folds):
            raise ValueError(
                f"folds must be at least 2 and fold from 0 to folds - 1, found folds {self.folds} and fold {self.fold}"
            )
        if self.folds and (self.validation_file or self.streaming):
            raise ValueError("--folds cuts the training part itself: leave out --validation_file and --streaming")
        if not 0 < self.train_fraction <= 1:
            raise ValueError(f"train_fraction must be in (0, 1], found {self.train_fraction}")
        if self.train_fraction < 1 and self.streaming:
            raise ValueError("--train_fraction needs all rows at hand; leave it out with --streaming")
        if self.pretrain not in (None, "contrastive"):
            raise ValueError(f"pretrain must be contrastive, found {self.pretrain!r}")
        if self.pretrain_text_column and not self.pretrain:
            raise ValueError("--pretrain_text_column needs --pretrain contrastive")
        if self.shuffle_buffer < 1:
            raise ValueError(f"shuffle_buffer must be at least 1, found {self.shuffle_buffer}")
        if self.image_cache_gib <= 0:
            raise ValueError(
                f"image_cache_gib must be above 0, found {self.image_cache_gib}; --image_cache false keeps no pixels"
            )
        for rule in self.exclude_rows:
            if "=" not in rule:
                raise ValueError(f"exclude_rows expects column=value, found {rule!r}")

    @property
    def text_column(self):
        return self.pretrain_text_column or self.question_column

    @property
    def reads_answers(self):
        return not self.pretrain_text_column

    def text(self, question, answer):
        """What the text tower reads of a row: before answering is learned, the question with its answer."""
        joined = self.pretrain and not self.pretrain_text_column
        return f"{question} {consensus(answer)}" if joined else question

    @property
    def files(self):
        files = {"train": self.train_file, "validation": self.validation_file, "test": self.test_file}
        return {part: path for part, path in files.items() if path}


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


def read_file(path):
    """A data file as a Dataset, its values as they are; columns that mix types become strings."""
    kind = os.path.splitext(path)[1].lower()
    if kind not in READERS:
        raise ValueError(f"{path}: expected a file ending in {', '.join(READERS)}")
    if not os.path.isfile(path):
        raise ValueError(f"{path}: no such file")
    if not os.path.getsize(path):
        raise ValueError(f"{path} has no rows")
    try:
        frame = READERS[kind](path)
    except Exception as error:
        line = bad_json_line(path) if kind == ".jsonl" else None
        raise ValueError(f"{path}{f' line {line}' if line else ''} is not valid {kind[1:]}: {error}") from error
    for name in frame.columns:
        if frame[name].map(type).nunique() > 1:
            frame[name] = frame[name].map(to_text)
    return Dataset.from_pandas(frame, preserve_index=False)


def bad_json_line(path):
    """Number of the first line of `path` that is no JSON, from 1."""
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                json.loads(line or "null") if line.strip() else None
            except json.JSONDecodeError:
                return number


def to_text(value):
    """A cell as text; None for a missing one. Lists, of several people's answers, stay lists."""
    if isinstance(value, (list, tuple)) or (hasattr(value, "tolist") and getattr(value, "ndim", 0)):
        return [to_text(item) for item in value]
    if isinstance(value, dict):  # VQA v2 wraps each answer: {"answer": ..., "answer_confidence": ...}
        return to_text(value.get("answer"))
    if value is None or value != value:
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


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


def image_key(image):
    """Hash of a picture's bytes, after decoding it once to be sure that it is one; else the exception."""
    try:
        content = image.get("bytes") if isinstance(image, dict) else None
        if content is None:
            path = image["path"] if isinstance(image, dict) else image
            with open(path, "rb") as file:
                content = file.read()
        with PILImage.open(io.BytesIO(content)) as picture:
            picture.load()
        return hashlib.sha256(content).hexdigest()[:16]
    except Exception as error:  # PIL raises many kinds; each means that this is no picture
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

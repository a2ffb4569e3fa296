"""A data set of the Hub, or a folder laid out as one: its parts, and the rows of each."""

import dataclasses
import logging

from datasets import DownloadManager, get_dataset_split_names, load_dataset, load_dataset_builder

from .files import read_file
from .rows import JsonRows

logger = logging.getLogger(__name__)

VALIDATION_NAMES = ("validation", "val", "valid", "dev", "eval", "validate", "development")  # the likeliest first
TEXT_KINDS = (".jsonl", ".json", ".csv")
GUESSED_KINDS = (*TEXT_KINDS, ".ndjson", ".tsv")  # as `datasets` reads them, also compressed
NO_SETTINGS = ("name", "version", "data_dir", "data_files", "description")  # what says nothing of how a file is read


def load_hub(args):
    """The parts of a data set of the Hub; where training rows are streamed, all but that part.

    Files of JSON and CSV are read as those of --train_file are: `datasets` would guess the types of their columns, and
    make of "2020-01-01" a time and of 00123 a number.
    """
    source = (args.dataset_name, args.dataset_config_name)
    files = text_files(load_dataset_builder(*source), args.dataset_name)
    if files:
        parts = find_parts(files, args.dataset_name)
        return {part: read_files(files[name]) for part, name in parts.items() if part != "train" or not args.streaming}
    if not args.streaming:
        splits = load_dataset(*source)
        return {part: splits[name] for part, name in find_parts(splits, args.dataset_name).items()}
    names = find_parts(get_dataset_split_names(*source), args.dataset_name)
    return {part: load_dataset(*source, split=name) for part, name in names.items() if part != "train"}


def text_files(builder, source):
    """The files of a data set of JSON and CSV: split -> list; None where `datasets` has to read it.

    It has to where the data set's card says how the files are read, as with another separator or with the names of
    classes, and where they are compressed or behind a URL.
    """
    files = {str(split): list(map(str, found)) for split, found in (builder.config.data_files or {}).items()}
    every = [file for found in files.values() for file in found]
    if not any(kind in file.lower() for file in every for kind in GUESSED_KINDS):
        return None
    default = type(builder.config)()
    settings = [field.name for field in dataclasses.fields(default) if field.name not in NO_SETTINGS]
    if (
        builder.name in ("json", "csv")
        and all(file.lower().endswith(TEXT_KINDS) for file in every)
        and all(file.startswith("hf://") or "://" not in file for file in every)
        and all(getattr(builder.config, name) == getattr(default, name) for name in settings)
        and "ClassLabel(" not in repr(builder.info.features)
    ):
        return files
    logger.warning(
        "%s: its JSON or CSV is read by the library datasets, which may guess the types of columns (dates, numbers, "
        "gaps); give plain .jsonl, .json or .csv files, or Parquet, to have every value as it is written",
        source,
    )
    return None


def read_files(files):
    """The rows of one split's files of JSON or CSV, one after another; those of the Hub are fetched first."""
    return JsonRows.joined([read_file(file) for file in DownloadManager().download(files)])


def find_parts(splits, source):
    """Which split of a data set is which part: part -> split. The log says what was guessed and what is left over."""
    parts = {part: part for part in ("train", "validation", "test") if part in splits}
    found = [name for name in splits if name.lower() in VALIDATION_NAMES]
    if "validation" not in parts and found:
        parts["validation"] = min(found, key=lambda name: VALIDATION_NAMES.index(name.lower()))
        logger.info("%s: its split %s is the validation part", source, parts["validation"])
    unused = [name for name in splits if name not in parts.values()]
    if unused:
        logger.warning(
            "%s: the splits %s are not used; used are %s",
            source,
            ", ".join(unused),
            ", ".join(parts.values()) or "none",
        )
    if not parts:
        raise ValueError(f"{source} has no split train, validation or test, found {', '.join(splits)}")
    return parts

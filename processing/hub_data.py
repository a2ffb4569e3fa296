"""A data set of the Hub, or a folder laid out as one: its parts, and the rows of each."""

import dataclasses
import hashlib
import json
import logging
import os

from datasets import DownloadManager, config, get_dataset_split_names, load_dataset, load_dataset_builder

from .files import read_file
from .rows import JsonRows
from .webdataset import with_column_names

logger = logging.getLogger(__name__)

VALIDATION_NAMES = ("validation", "val", "valid", "dev", "eval", "validate", "development")  # the likeliest first
TEXT_KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
METADATA = ("metadata.jsonl", "metadata.csv")  # the tables that `datasets` knows beside images
NO_SETTINGS = ("name", "version", "data_dir", "data_files", "description")  # what says nothing of how a file is read


def load_hub(args):
    """The parts of a data set of the Hub; where training rows are streamed, all but that part.

    Files of JSON and CSV are read as those of --train_file are: `datasets` would guess the types of their columns, and
    make of "2020-01-01" a time and of 00123 a number.
    """
    source, builder = find_source(args)
    files = text_files(builder, args.dataset_name)
    if files:
        parts = find_parts(files, args.dataset_name)
        return {
            part: read_files(files[name], args) for part, name in parts.items() if part != "train" or not args.streaming
        }
    named = with_column_names if builder.name == "webdataset" else lambda rows: rows
    if not args.streaming:
        splits = load_dataset(**source)
        return {part: named(splits[name]) for part, name in find_parts(splits, args.dataset_name).items()}
    names = find_parts(get_dataset_split_names(source["path"], source["name"]), args.dataset_name)
    return {part: named(load_dataset(**source, split=name)) for part, name in names.items() if part != "train"}


def find_source(args):
    """What `load_dataset` is called with, and the builder of the data set.

    Each state of a folder has a cache of its own: where it has a card that names its files, `datasets` would give the
    rows of before its files were changed, or those of another folder of its name.
    """
    source = {"path": args.dataset_name, "name": args.dataset_config_name}
    builder = load_dataset_builder(**source)
    if os.path.isdir(args.dataset_name):
        files = [file for found in (builder.config.data_files or {}).values() for file in map(str, found)]
        cards = [os.path.join(args.dataset_name, name) for name in ("README.md", ".huggingface.yaml")]
        state = [(f, os.stat(f).st_size, os.stat(f).st_mtime_ns) for f in [*files, *cards] if os.path.exists(f)]
        digest = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]
        source["cache_dir"] = os.path.join(config.HF_DATASETS_CACHE, f"folder-{digest}")
        builder = load_dataset_builder(**source)
    return source, builder


def text_files(builder, source):
    """The files of a data set of JSON and CSV: split -> list; None where `datasets` has to read it.

    Of a folder of images with such tables beside them the images are among the files.

    It has to where the data set's card says how the files are read, as with another separator or with the names of
    classes, and where they are compressed or behind a URL.
    """
    files = {str(split): list(map(str, found)) for split, found in (builder.config.data_files or {}).items()}
    every = [file for found in files.values() for file in found]
    if not any(kind in file.lower() for file in every for kind in TEXT_KINDS):
        return None
    default = type(builder.config)()
    settings = [field.name for field in dataclasses.fields(default) if field.name not in NO_SETTINGS]
    kinds = {"json": TEXT_KINDS, "csv": TEXT_KINDS, "imagefolder": tuple(getattr(builder, "EXTENSIONS", ()))}
    if (
        builder.name in kinds
        and all(file.lower().endswith(kinds[builder.name]) or os.path.basename(file) in METADATA for file in every)
        and all(any(file.lower().endswith(TEXT_KINDS) for file in found) for found in files.values())
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


def read_files(files, args):
    """The rows of one split's files of JSON or CSV, one after another; those of the Hub are fetched first."""
    found = zip(files, DownloadManager().download(files))
    tables = {name: file for name, file in found if name.lower().endswith(TEXT_KINDS)}
    folder = os.path.commonpath(map(os.path.dirname, tables)) if "://" not in "".join(tables) else ""
    return JsonRows.joined(
        {short(name, folder): with_image(read_file(file, args), file) for name, file in tables.items()}
    )


def short(name, folder):
    """A file's name within a folder; of a file of the Hub its last part."""
    return os.path.relpath(name, folder) if folder else name.rpartition("/")[2]


def with_image(rows, file):
    """The rows of a table beside images, each with its image's path as `image`; of another table the rows as they are.

    A `file_name` that leaves the folder is a bad row: it is of whoever made the data set.
    """
    if os.path.basename(file) not in METADATA or "image" in rows.column_names or "file_name" not in rows.column_names:
        return rows
    folder, texts, problems = os.path.dirname(file), [], dict(rows.problems)
    for number, (name, text) in enumerate(zip(rows["file_name"], rows.texts)):
        path = None
        if not isinstance(name, str) or not name.strip():
            problems.setdefault(number, "no image: file_name has no path")
        elif os.path.isabs(name) or os.path.normpath(name).split(os.sep)[0] == os.pardir:
            problems.setdefault(number, f"file_name {name!r} leaves the folder of {os.path.basename(file)}")
        else:
            path = os.path.join(folder, name)
        texts.append(f'{{"image": {json.dumps(path)}, {text.lstrip()[1:]}')
    return JsonRows(texts, ["image", *rows.column_names], rows.all_text, problems, rows.places, rows.repeated)


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

"""Rows of a data set of the Hub, or of a folder laid out as one, a few at a time: nothing is downloaded as a whole."""

import dataclasses
import hashlib
import itertools
import os
import re

from datasets import Dataset, get_dataset_split_names, load_dataset

from .files import KINDS
from .hub_data import find_source, text_files
from .row_streams import JoinedRows, RowStream, open_file, pieces_of
from .webdataset import with_column_names

ID = re.compile(r"[\w.-]+/[\w.-]+")


class HubRows(RowStream):
    """Rows that the library datasets streams, images as they are in their files.

    Args:
        source: what messages call it.
        load: gives the `IterableDataset`.
        digest: of its files.
        rows: how many there are by the data set's card, None where it doesn't say.
    """

    def __init__(self, source, load, digest, rows=None):
        super().__init__(source)
        self.load, self.digest, self.rows = load, digest, rows

    def count(self):
        if self.rows is None:
            self.rows = sum(1 for _ in self.load())
        return self.rows

    def read(self, start):
        stream = self.load()
        for rows in pieces_of(itertools.islice(stream.skip(start), None) if start else stream):
            yield with_column_names(Dataset.from_list(rows, features=stream.features))


def is_hub(data):
    """Whether the data's name is a folder, or may be the id of a data set on the Hub."""
    if not isinstance(data, (str, os.PathLike)):
        return False
    path = os.fspath(data)
    named = ID.fullmatch(path) and not os.path.exists(os.path.dirname(path)) and not path.lower().endswith(tuple(KINDS))
    return os.path.isdir(path) or bool(named and not os.path.exists(path))


def open_hub(name, args, split=None):
    """The rows of one split of a data set as a [`RowStream`].

    Files of a folder are read as they are when they are given by themselves; of the Hub, and of images beside a table,
    datasets streams the rows.

    Args:
        name: id on the Hub, or a folder.
        args: `DataArguments`; `dataset_config_name` of it.
        split: "test" when left out, or the only one.

    Raises:
        ValueError: no such data set, or split.
    """
    name = os.fspath(name)
    try:
        source, builder = find_source(dataclasses.replace(args, dataset_name=name))
        files = builder.config.data_files or {}
        splits = [str(key) for key in files] or get_dataset_split_names(source["path"], source["name"])
    except (OSError, ValueError) as error:  # the errors of datasets and of the Hub's client are of these
        raise ValueError(f"{name} is no file, and no data set that can be reached: {error}"[:500]) from error
    if split is None:
        split = "test" if "test" in splits else splits[0] if len(splits) == 1 else None
    if split not in splits:
        raise ValueError(f"{name} has the splits {', '.join(splits)}: give one of them with split, found {split}")
    found = {str(key): paths for key, paths in files.items()}.get(split)
    if os.path.isdir(name) and is_read_here(builder, name, found):
        streams = [open_file(path, args) for path in found]
        return streams[0] if len(streams) == 1 else JoinedRows(f"{name}, {split}", streams)

    def load():
        return load_dataset(**source, split=split, streaming=True).decode(False)

    known = (builder.info.splits or {}).get(split)
    state = repr([split, list(map(str, found or ())), getattr(found, "origin_metadata", None), builder.hash])
    digest = hashlib.sha256(state.encode()).hexdigest()
    return HubRows(f"{name}, {split}", load, digest, known.num_examples if known and known.num_examples else None)


def is_read_here(builder, name, files):
    """Whether files of a folder are read as those that are given by themselves are."""
    if not files:
        return False
    if all(file.lower().endswith(".parquet") for file in files):
        return True
    return builder.name in ("json", "csv") and text_files(builder, name) is not None

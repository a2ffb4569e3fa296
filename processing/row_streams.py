"""The rows of a source a few at a time, as it has them, so that memory doesn't grow with their number.

JSON Lines, CSV, Parquet and WebDataset archives are read while they are answered; of a spreadsheet or one JSON value,
which are whole or nothing, all rows are held. What a row is doesn't depend on the way: see `processing.files`.
"""

import contextlib
import functools
import glob
import itertools
import json
import logging
import os
import tarfile
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pyarrow.parquet
from datasets import Dataset, load_dataset
from datasets.packaged_modules.webdataset.webdataset import base_plus_ext

from .encodings import decode
from .files import (
    KINDS,
    LINES,
    TABLES,
    UNREADABLE,
    check_file,
    json_lines,
    json_rows,
    read_file,
    table_dataset,
)
from .places import LaterPlaces, counted
from .rows import JsonRows, PythonRows
from .tables import long_cells, table_form
from .webdataset import unreadable_archive, with_column_names

logger = logging.getLogger(__name__)

PIECE = 256  # rows that are held at a time: embedded images may have megabytes each
SAMPLE = 2**24  # bytes of a table by which its encoding, separator and columns are told
LOOKED_AT = 10_000  # rows of it


class Piece(NamedTuple):
    """Some rows that follow one another.

    Attributes:
        stream: the [`RowStream`] of their file.
        rows: [`JsonRows`], [`PythonRows`] or a Dataset.
        first: number of the first in the file, from 0.
    """

    stream: object
    rows: object
    first: int

    def place(self, row):
        """Where a person finds one of them."""
        places = getattr(self.rows, "places", None)
        return places.name(row) if places else f"row {self.first + row + 1}"


class RowStream:
    """Rows of one source, by pieces, from any row on.

    Args:
        source: what messages call it.
    """

    def __init__(self, source):
        self.source = source

    @property
    def files(self):
        """The [`RowStream`] of each file."""
        return [self]

    @functools.cached_property
    def column_names(self):
        """Those of its first rows."""
        piece = next(self.pieces(), None)
        if piece is None:
            raise ValueError(f"{self.source} has no rows")
        return piece.rows.column_names

    def count(self):
        """How many rows there are, None where only the end tells. It takes a pass over a text, without its images."""
        return None

    def pieces(self, start=0):
        """The [`Piece`] after piece from a row on."""
        first = start
        for rows in self.read(start):
            yield Piece(self, rows, first)
            first += len(rows)


class LineRows(RowStream):
    """Rows of JSON Lines."""

    def lines(self):
        """(number, line) of each line that isn't blank."""
        with open(self.source, "rb") as file:
            encoding = json.detect_encoding(file.read(4))
        with readable(self.source), open(self.source, encoding=encoding, newline="\n") as file:
            for number, line in enumerate(file, 1):
                line = line.removeprefix("\ufeff") if number == 1 else line
                if line.strip(" \t\r\n"):
                    yield number, line.removesuffix("\n")

    def count(self):
        return sum(1 for _ in self.lines())

    def read(self, start):
        for lines in pieces_of(itertools.islice(self.lines(), start, None)):
            yield json_rows(json_lines(lines))


class TableRows(RowStream):
    """Rows of CSV. Separator, encoding and columns are those of its first 16 MiB."""

    def __init__(self, path, args):
        super().__init__(path)
        with open(path, "rb") as file:
            text, self.encoding = decode(path, whole_lines(file.read(SAMPLE + 1)), args.csv_encoding)
        with long_cells():
            self.form = table_form(path, text, args.csv_separator, LOOKED_AT)
        self.form.tell(path, self.encoding)

    def records(self):
        """The [`records`] below that of the names."""
        with readable(self.source), open(self.source, encoding=self.encoding, newline="") as file:
            if file.read(1) != "\ufeff":
                file.seek(0)
            file.read(self.form.start)
            yield from self.form.below(self.source, file)

    def count(self):
        with long_cells():
            return sum(1 for _ in self.records())

    def read(self, start):
        found = itertools.islice(self.records(), start, None)
        while True:
            with long_cells():
                piece = list(itertools.islice(found, PIECE))
            if not piece:
                return
            yield self.form.rows(piece)


class ParquetRows(RowStream):
    """Rows of a Parquet file, of which a page of each column is read at a time."""

    def open(self):
        return pyarrow.parquet.ParquetFile(self.source, buffer_size=2**20, pre_buffer=False)

    def count(self):
        with valid_parquet(self.source):
            return self.open().metadata.num_rows

    def read(self, start):
        with valid_parquet(self.source), self.open() as file:
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                skipped, start = min(start, rows), max(0, start - rows)
                for batch in file.iter_batches(PIECE, [group]) if skipped < rows else ():
                    left_out, skipped = min(skipped, len(batch)), max(0, skipped - len(batch))
                    if left_out < len(batch):
                        yield table_dataset(pyarrow.Table.from_batches([batch.slice(left_out)]))


class ArchiveRows(RowStream):
    """Rows of a WebDataset archive."""

    def count(self):
        with readable(self.source), tarfile.open(self.source) as archive:
            keys = (base_plus_ext(member.name)[0] for member in archive if member.isfile())
            return sum(1 for _ in itertools.groupby(key for key in keys if key is not None))

    def read(self, start):
        with unreadable_archive(self.source):
            stream = load_dataset("webdataset", data_files=self.source, split="train", streaming=True)
            for rows in pieces_of(itertools.islice(stream.decode(False), start, None)):
                yield with_column_names(Dataset.from_list(rows, features=stream.features))


class HeldRows(RowStream):
    """Rows that are held all at once."""

    def __init__(self, source, rows):
        super().__init__(source)
        self.rows = rows

    def count(self):
        return len(self.rows)

    def read(self, start):
        for first in range(start, len(self.rows), PIECE):
            yield part_of(self.rows, first, min(first + PIECE, len(self.rows)))


class PassingRows(RowStream):
    """Rows that a person's code makes one after another: dicts, which can be read once only."""

    def __init__(self, source, rows):
        super().__init__(source)
        self.rows = iter(rows)

    @functools.cached_property
    def column_names(self):
        first = list(itertools.islice(self.rows, PIECE))
        self.rows = itertools.chain(first, self.rows)
        return list(dict.fromkeys(column for row in first if isinstance(row, Mapping) for column in row))

    def read(self, start):
        for rows in pieces_of(itertools.islice(self.rows, start, None)):
            if not all(isinstance(row, Mapping) for row in rows):
                found = next(type(row).__name__ for row in rows if not isinstance(row, Mapping))
                raise ValueError(f"{self.source}: expected a dict for each row, found {found}")
            columns = dict.fromkeys(column for row in rows for column in row)
            yield PythonRows({column: [row.get(column) for row in rows] for column in columns})


class JoinedRows(RowStream):
    """The rows of several sources, one source behind the other."""

    def __init__(self, source, streams):
        super().__init__(source)
        self.streams = streams

    @property
    def files(self):
        return self.streams

    def count(self):
        return sum(stream.count() for stream in self.streams)

    def pieces(self, start=0):
        for stream in self.streams:
            rows = stream.count() if start else 0
            if not start or start < rows:
                yield from stream.pieces(start)
            start = max(0, start - rows)


def open_rows(data, args):
    """A source of rows as a [`RowStream`].

    Args:
        data: the path of a file that `read_file` reads, a pattern of several (such as `shards/*.tar`, in the order of
            their names) or a list of paths; or rows in Python: a Dataset, a list of dicts, a DataFrame, or an iterable
            of dicts such as a generator or an IterableDataset.
        args: `DataArguments`.

    Raises:
        ValueError: something else, no such file, or one that can't be read.
    """
    if isinstance(data, (str, os.PathLike)):
        path = os.fspath(data)
        if os.path.exists(path) or not set("*?[") & set(path):
            return open_file(path, args)
        data = sorted(glob.glob(path, recursive=True))
        if not data:
            raise ValueError(f"{path}: no such file")
    if isinstance(data, (list, tuple)) and data and all(isinstance(item, (str, os.PathLike)) for item in data):
        streams = [open_file(os.fspath(path), args) for path in data]
        return streams[0] if len(streams) == 1 else JoinedRows(f"{len(streams)} files", streams)
    held = isinstance(data, (list, tuple, Mapping)) or hasattr(data, "__len__") or not isinstance(data, Iterable)
    if held:
        from .python_rows import source_rows

        return HeldRows("the data", source_rows(data, data_args=args))
    return PassingRows("the data", data)


def open_file(path, args):
    kind = check_file(path, KINDS)
    if kind == ".parquet":
        return ParquetRows(path)
    if kind == ".tar":
        return ArchiveRows(path)
    if kind in TABLES:
        return TableRows(path, args)
    if kind in (*LINES, ".json") and is_lines(path, kind):
        return LineRows(path)
    return HeldRows(path, read_file(path, args))


def is_lines(path, kind):
    """Whether a JSON file is JSON Lines, whatever its name says: see `files.read_json`."""
    lines = [line for _, line in itertools.islice(LineRows(path).lines(), 2)]
    if not lines or lines[0].lstrip().startswith("["):
        return False
    value = next(json_lines([(1, lines[0])]))[-1]
    return kind in LINES or (len(lines) > 1 and isinstance(value, dict))


def part_of(rows, start, stop):
    """Some rows of those that are held."""
    if isinstance(rows, Dataset):
        return rows.select(range(start, stop))
    problems = {row - start: problem for row, problem in rows.problems.items() if start <= row < stop}
    places = LaterPlaces(rows.places or counted(len(rows)), start)
    if isinstance(rows, JsonRows):
        return JsonRows(rows.texts[start:stop], rows.column_names, rows.all_text, problems, places, rows.repeated)
    values = {name: values[start:stop] for name, values in rows.values.items()}
    return PythonRows(values, problems, places, rows.repeated)


def pieces_of(items):
    """Lists of a few of them each."""
    items = iter(items)
    while piece := list(itertools.islice(items, PIECE)):
        yield piece


def whole_lines(content):
    """The beginning of a text without the line that it was cut in, if it was."""
    if len(content) <= SAMPLE:
        return content
    unit = {"utf-16": 2, "utf-32": 4}.get(json.detect_encoding(content)[:6], 1)
    end = SAMPLE - SAMPLE % unit
    while end and content[end - unit : end].strip(b"\0") != b"\n":
        end -= unit
    return content[: end or SAMPLE]


@contextlib.contextmanager
def readable(path):
    """What goes wrong with a file while its rows are read, as an error of ours."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected {error.encoding} in all of it, as at its beginning, found the byte "
            f"0x{error.object[error.start]:02x}; save all of it as UTF-8, or give --csv_encoding"
        ) from error
    except (OSError, tarfile.TarError) as error:
        raise ValueError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error


@contextlib.contextmanager
def valid_parquet(path):
    try:
        yield
    except UNREADABLE as error:
        raise ValueError(f"{path} is not valid parquet: {error}") from error

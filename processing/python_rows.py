"""Rows that a person has in Python: a Dataset, a list of dicts, a DataFrame or a stream -> canonical rows."""

import logging
import os
from collections.abc import Mapping

import datasets
import pandas

from .bad_rows import BadRows
from .data_arguments import DataArguments
from .datasets import prepare_part
from .files import read_file
from .rows import JsonRows, PythonRows
from .streaming import StreamedRows
from .tables import repeated_names, unique_names
from .wording import python_words, worded

logger = logging.getLogger(__name__)

CANONICAL = ("image", "question", "answer")
ADDED = ("image_key", "row", "row_place")
READY = ("input_ids", "text_embeds")  # columns of batches that are ready made


def is_canonical(rows):
    """Whether rows have been brought to the canonical columns already."""
    if isinstance(rows, datasets.IterableDataset):
        return False
    return isinstance(rows, StreamedRows) or {"image", "question", "image_key", "row"} <= set(column_names(rows))


def is_raw(rows):
    """Whether these are rows with images and questions that have yet to be checked and brought to canonical columns.

    Others are batches that are ready made, or a dataset of torch that does what it wants.
    """
    if rows is None or is_canonical(rows):
        return False
    if isinstance(rows, Mapping) and not isinstance(rows, datasets.DatasetDict):
        return True  # one row, or columns: to be refused
    if isinstance(rows, (list, tuple)) and not rows:
        return True
    if isinstance(rows, (str, os.PathLike, datasets.DatasetDict, datasets.IterableDatasetDict, pandas.DataFrame)):
        return True
    return bool(column_names(rows)) and not set(READY) & set(column_names(rows))


def column_names(rows):
    """The names of the columns of rows of any kind; none where they have none."""
    names = getattr(rows, "column_names", None)
    if names is None and isinstance(rows, datasets.IterableDataset):
        names = next(iter(rows), {})
    if names is None and isinstance(rows, pandas.DataFrame):
        names = map(str, rows.columns)
    if names is None and isinstance(rows, (list, tuple)) and rows and isinstance(rows[0], Mapping):
        names = rows[0]
    return list(names or ())


def own_fields(rows):
    """Canonical rows without what was added to those of their source."""
    return rows.remove_columns([name for name in ADDED if name in rows.column_names])


def with_columns(data_args, column_mapping):
    """[`DataArguments`] that read the columns that a mapping names.

    Args:
        data_args: the arguments; those of a run without flags when None.
        column_mapping: a source's column -> "image", "question" or "answer", None for columns of these names.

    Raises:
        ValueError: it names something else, or one of the three twice.
    """
    data_args = DataArguments() if data_args is None else data_args
    known = isinstance(column_mapping, (Mapping, type(None)))
    targets = list((column_mapping or {}).values()) if known else [column_mapping]
    if not known or len(set(targets)) < len(targets) or not set(targets) <= set(CANONICAL):
        raise ValueError(
            f"column_mapping maps a column of the data to each of {', '.join(CANONICAL)}, such as "
            f"{{'Bild': 'image', 'Frage': 'question', 'Antwort': 'answer'}}; found {column_mapping}"
        )
    names = {f"{target}_column": column for column, target in (column_mapping or {}).items()}
    return data_args.changed(**names)


def source_rows(rows, name="the data", data_args=None):
    """Rows of any kind as [`JsonRows`], [`PythonRows`] or a Dataset, for `prepare_part`.

    Args:
        rows: a Dataset, a list of dicts, a DataFrame, or the path of a file that `read_file` reads.
        name: what messages call them.
        data_args: [`DataArguments`], which say how files are read.

    Raises:
        ValueError: something else, or no rows.
    """
    if isinstance(rows, (datasets.DatasetDict, datasets.IterableDatasetDict)):
        raise ValueError(
            f"{name}: expected one part of a data set, found the parts {', '.join(rows)}; give one of them"
        )
    if isinstance(rows, (str, os.PathLike)):
        rows = read_file(os.fspath(rows), data_args)
    elif isinstance(rows, pandas.DataFrame):
        known = rows.astype(object).where(rows.notna(), None)
        names = list(map(str, rows.columns))
        columns = (known.iloc[:, place].tolist() for place in range(len(names)))
        rows = PythonRows(dict(zip(unique_names(names), columns)), repeated=repeated_names(names))
    elif isinstance(rows, (list, tuple)) and all(isinstance(row, Mapping) for row in rows):
        columns = dict.fromkeys(column for row in rows for column in row)
        rows = PythonRows({column: [row.get(column) for row in rows] for column in columns})
    elif not isinstance(rows, (datasets.Dataset, JsonRows, PythonRows)):
        raise ValueError(
            f"{name}: expected a Dataset, a list of dicts, a pandas DataFrame or the path of a file, found "
            f"{'a list with other things in it' if isinstance(rows, (list, tuple)) else type(rows).__name__}"
        )
    if not len(rows):
        raise ValueError(f"{name}: there are no rows")
    return rows


@python_words
def prepare_dataset(rows, column_mapping=None, data_args=None, needs_answers=True, name="the data"):
    """Checks rows as those of files are, and brings them to the canonical columns.

    Args:
        rows: a Dataset, a list of dicts, a DataFrame or the path of a file: see `source_rows`. An IterableDataset is
            read while training goes on: see `StreamedRows`. Rows that are canonical stay as they are.
        column_mapping: the data's columns -> "image", "question" and "answer", where they have other names.
        data_args: [`DataArguments`] with all else: `image_dir`, `on_bad_example="skip"`, `exclude_rows` and so on.
        needs_answers: whether a row without an answer is a bad one.
        name: what messages call the rows.

    Returns:
        A Dataset with `image`, `question`, `answer`, `image_key`, `row`, `row_place` and the further columns, or
        [`StreamedRows`].

    Raises:
        ValueError: a column is missing, or no row is left.
        BadExampleError: a row is bad and `on_bad_example` is "error".
    """
    if is_canonical(rows):
        return rows
    data_args = with_columns(data_args, column_mapping)
    if isinstance(rows, datasets.IterableDataset):
        return StreamedRows(data_args, stream=rows)
    part = "train" if needs_answers else "test"
    canonical, bad = prepare_part(source_rows(rows, name, data_args), part, data_args, needs_answers, source=name)
    if bad:
        lines = BadRows(name, bad, len(canonical) + len(bad)).lines()
        logger.warning("left out: %s", worded("\n".join(lines)))
    return canonical

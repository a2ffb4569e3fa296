"""Data files as their rows say: nothing about them is guessed."""

import csv
import io
import json
import logging
import os

import pyarrow
import pyarrow.parquet
from datasets import Dataset
from datasets.features.features import generate_from_arrow_type
from datasets.table import InMemoryTable

from .rows import DECODER, JsonRows, json_text, skip_space

logger = logging.getLogger(__name__)

KINDS = (".jsonl", ".json", ".csv", ".parquet")
DEEPEST = 100  # lists and objects in one another; Python's own limit depends on who calls


def read_file(path):
    """The rows of a data file: [`JsonRows`], of a Parquet file a Dataset.

    Raises:
        ValueError: another kind of file, no file, or one that isn't what its name says, with the line.
    """
    kind = check_file(path, KINDS)
    try:
        if kind == ".parquet":
            return read_parquet(path)
        text = read_text(path)
        return read_csv(path, text) if kind == ".csv" else read_json(path, text)
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror or error}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} line {error.lineno} is not valid {kind[1:]}: {error.msg}") from error


def check_file(path, kinds):
    """The kind of a data file, refused before it is opened: a pipe could be waited for for ever."""
    kind = os.path.splitext(path)[1].lower()
    if kind not in kinds:
        raise ValueError(f"{path}: expected a file ending in {', '.join(kinds)}")
    if not os.path.exists(path):
        raise ValueError(f"{path}: no such file")
    if not os.path.isfile(path):
        found = "a folder" if os.path.isdir(path) else "a pipe or a device"
        raise ValueError(f"{path}: expected a regular file, found {found}")
    if not os.path.getsize(path):
        raise ValueError(f"{path} has no rows")
    return kind


def read_text(path):
    """A file's text, without a byte order mark."""
    with open(path, "rb") as file:
        content = file.read()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path} line {line}: expected UTF-8, found the byte 0x{content[error.start]:02x}; convert the file, as "
            f"with iconv -t UTF-8"
        ) from error


def read_json(path, text):
    """The rows of an array of objects, an object of columns, or an object in each line, whatever the name says."""
    lines = path.lower().endswith(".jsonl")
    start = skip_space(text, 0)
    if text[start : start + 1] == "[":
        items, end = array_items(text, start)
        if skip_space(text, end) == len(text):
            if lines:
                logger.warning("%s is one JSON array and not JSON Lines; it is read as that", path)
            return json_rows(path, items)
        if not lines:
            raise json.JSONDecodeError("text after the end of the array", text, skip_space(text, end))
    elif text[start : start + 1] == "{" and not lines:
        table, end = decode(text, start)
        if skip_space(text, end) == len(text):
            return rows_of_columns(path, table)
        logger.warning("%s is JSON Lines and not one JSON value; it is read as that", path)
    return json_rows(path, json_lines(text))


def json_lines(text):
    """(line, text, value) of each line that isn't blank."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip(" \t\r"):
            try:
                start = skip_space(line, 0)
                value, end = decode(line, start)
                if skip_space(line, end) != len(line):
                    raise json.JSONDecodeError("text after the end of the row", line, end)
            except json.JSONDecodeError as error:
                error.lineno = number
                raise
            yield number, line[start:end], value


def array_items(text, start):
    """(line, text, value) of each item of the JSON array that starts at a place, and the place where it ends."""
    items, line, counted = [], 1, 0
    place = skip_space(text, start + 1)
    while text[place : place + 1] != "]":
        value, end = decode(text, place)
        line, counted = line + text.count("\n", counted, place), place
        items.append((line, text[place:end], value))
        place = skip_space(text, end)
        if text[place : place + 1] == ",":
            place = skip_space(text, place + 1)
        elif text[place : place + 1] != "]":
            raise json.JSONDecodeError("expected , or ] here", text, place)
    return items, place + 1


def decode(text, place):
    """A JSON value and the place where it ends; all that can be wrong with it as `json.JSONDecodeError`."""
    try:
        value, end = DECODER.raw_decode(text, place)
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise json.JSONDecodeError(f"nested deeper than {DEEPEST} levels", text, place) from error
    except ValueError as error:  # an integer of thousands of digits
        raise json.JSONDecodeError(str(error), text, place) from error
    return value, end


def depth(value):
    """How many lists and objects are in one another."""
    level, levels = [value], 0
    while level := [item for item in level if isinstance(item, (list, dict))]:
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
        levels += 1
    return levels


def json_rows(path, items):
    """The rows of (line, text, value), each of which must be an object."""
    texts, names = [], {}
    for line, text, value in items:
        if not isinstance(value, dict):
            raise ValueError(f"{path} line {line}: expected an object with a row's fields, found {kind_of(value)}")
        if text.count("[") + text.count("{") > DEEPEST and depth(value) > DEEPEST:
            raise ValueError(f"{path} line {line}: nested deeper than {DEEPEST} levels")
        texts.append(text)
        names.update(dict.fromkeys(value))
    return JsonRows(texts, names)


def kind_of(value):
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def rows_of_columns(path, table):
    """The rows of an object of columns, each a list or, as pandas writes it, an object by row."""
    columns = {name: dict(enumerate(values)) if isinstance(values, list) else values for name, values in table.items()}
    first = next(iter(columns.values()), {})
    if not all(isinstance(values, dict) and set(values) == set(first) for values in columns.values()):
        raise ValueError(
            f"{path}: expected an array of rows, or an object of columns of one length, found an object with "
            f"{', '.join(list(columns)[:10])}"
        )
    rows = [{name: values[key] for name, values in columns.items()} for key in first]
    return json_rows(path, ((1, json.dumps(row), row) for row in rows))


def read_csv(path, text):
    """The rows of a CSV file, all text: "none" and "NA" are answers. An empty cell is an empty text."""
    limit = csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    texts = []
    try:
        names = unique_names(next(reader, []))
        for cells in reader:
            if len(cells) > len(names):
                raise ValueError(
                    f"{path} line {reader.line_num}: expected {len(names)} cells, as many as there are columns, found "
                    f"{len(cells)}; write cells with commas in quotes"
                )
            if cells:
                texts.append(json.dumps(dict(zip(names, cells)), ensure_ascii=False))
    except csv.Error as error:
        raise ValueError(f"{path} line {reader.line_num} is not valid csv: {error}") from error
    finally:
        csv.field_size_limit(limit)
    return JsonRows(texts, names, all_text=True)


def unique_names(names):
    """Column names, with a number for those that come again, as pandas numbers them."""
    found = []
    for name in names:
        times, base = 0, name
        while name in found:
            times += 1
            name = f"{base}.{times}"
        found.append(name)
    return found


def read_parquet(path):
    """The rows of a Parquet file, with the `datasets` features that it may have been written with."""
    try:
        table = pyarrow.parquet.ParquetFile(path).read()
        table.validate(full=True)  # texts that are no UTF-8
        index = (table.schema.pandas_metadata or {}).get("index_columns", [])
        table = table.drop_columns([name for name in index if isinstance(name, str) and name in table.column_names])
        for place, field in enumerate(table.schema):
            column = known_type(table.column(place))
            table = table.set_column(place, field.with_type(column.type), column)
        return Dataset(InMemoryTable(table))
    except (pyarrow.ArrowException, ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise ValueError(f"{path} is not valid parquet: {error}") from error


def known_type(column):
    """A column as a type that `datasets` knows: the categories of pandas as their values, maps as their JSON text."""
    if pyarrow.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    try:
        generate_from_arrow_type(column.type)
    except (ValueError, NotImplementedError):
        texts = [None if value is None else json_text(value) for value in column.to_pylist()]
        return pyarrow.chunked_array([pyarrow.array(texts, pyarrow.string())])
    return column

"""Data files as their rows say: nothing about them is guessed."""

import json
import logging
import os
from array import array

import pyarrow
import pyarrow.parquet
from datasets import Dataset
from datasets.features.features import generate_from_arrow_type
from datasets.table import InMemoryTable

from .data_arguments import DataArguments
from .encodings import decode_unicode
from .excel import read_excel
from .places import Places
from .public_sets import sets_like
from .rows import DECODER, JsonRows, json_text, object_items, shortest, skip_space
from .tables import read_table
from .webdataset import read_archive

logger = logging.getLogger(__name__)

TABLES = (".csv", ".tsv", ".tab", ".txt")  # texts, with any separator
LINES = (".jsonl", ".ndjson")
KINDS = (*TABLES, ".xlsx", ".xlsm", *LINES, ".json", ".parquet", ".tar")
OTHERS = {".xls": "save it as .xlsx or CSV", ".ods": "save it as .xlsx or CSV"}
UNREADABLE = (pyarrow.ArrowException, ValueError, TypeError, KeyError, NotImplementedError)  # of Parquet
DEEPEST = 100  # lists and objects in one another; Python's own limit depends on who calls


def read_file(path, args=None):
    """The rows of a data file: [`JsonRows`], of a spreadsheet [`PythonRows`], of Parquet and of an archive a Dataset.

    Rows that can't be read are among them, as `problems`: they are told with all other bad rows.

    Args:
        args: `DataArguments`, which say how tables are read; what they leave open is found out.

    Raises:
        ValueError: another kind of file, no file, one that isn't what its name says, or of which no row can be read.
    """
    args, kind = args or DataArguments(), check_file(path, KINDS)
    try:
        if kind == ".parquet":
            return read_parquet(path)
        if kind == ".tar":
            return read_archive(path)
        if kind in (".xlsx", ".xlsm"):
            return read_excel(path, args.excel_sheet)
        with open(path, "rb") as file:
            content = file.read()
        rows = read_table(path, content, args) if kind in TABLES else read_json(path, content)
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror or error}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} line {error.lineno} is not valid {kind[1:]}: {error.msg}") from error
    if not rows.column_names and rows.problems:
        row, problem = next(iter(rows.problems.items()))
        raise ValueError(f"{path} {rows.places.name(row)}: {problem}")
    return rows


def check_file(path, kinds):
    """The kind of a data file, refused before it is opened: a pipe could be waited for for ever."""
    kind = os.path.splitext(path)[1].lower()
    if kind not in kinds:
        advice = f"; {OTHERS[kind]}" if kind in OTHERS else ""
        raise ValueError(f"{path}: expected a file ending in {', '.join(kinds)}{advice}")
    if not os.path.exists(path):
        raise ValueError(f"{path}: no such file")
    if not os.path.isfile(path):
        found = "a folder; give it as --dataset_name" if os.path.isdir(path) else "a pipe or a device"
        raise ValueError(f"{path}: expected a regular file, found {found}")
    if not os.path.getsize(path):
        raise ValueError(f"{path} has no rows")
    return kind


def read_json(path, content):
    """The rows of an array of objects, an object of columns, or an object in each line, whatever the name says."""
    text = decode_unicode(path, content, "convert the file, as with iconv -t UTF-8").text
    lines = path.lower().endswith(LINES)
    start = skip_space(text, 0)
    if text[start : start + 1] == "[":
        items, end = array_items(text, start)
        if skip_space(text, end) == len(text):
            if lines:
                logger.warning("%s is one JSON array and not JSON Lines; it is read as that", path)
            return json_rows(items)
        if not lines:
            raise json.JSONDecodeError("text after the end of the array", text, skip_space(text, end))
    elif text[start : start + 1] == "{" and not lines:
        table, end = decode(text, start)
        if skip_space(text, end) == len(text):
            return rows_of_columns(path, table, text[start:end])
        logger.warning("%s is JSON Lines and not one JSON value; it is read as that", path)
    return json_rows(json_lines(enumerate(text.split("\n"), 1)))


def json_lines(lines):
    """(number, text, value) of each of some (number, line) that isn't blank; the error is the value of one that isn't
    valid."""
    for number, line in lines:
        if line.strip(" \t\r"):
            try:
                start = skip_space(line, 0)
                value, end = decode(line, start)
                if skip_space(line, end) != len(line):
                    raise json.JSONDecodeError("text after the end of the row", line, end)
                yield number, line[start:end], value
            except json.JSONDecodeError as error:
                yield number, line, error


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


def json_rows(items, unit="line"):
    """The rows of (number, text, value), each of which must be an object; others are problems.

    Args:
        unit: what the numbers are those of.
    """
    texts, names, problems, numbers, repeated = [], {}, {}, array("q"), RepeatedKey()
    for number, text, value in items:
        problem = problem_of(text, value)
        if problem is None and (key := repeated.of(text)):
            problem = f"the key {key!r} comes twice in one object; only one can be meant"
        if problem:
            problems[len(texts)] = problem
        readable = isinstance(value, dict) and depth(value) <= DEEPEST
        texts.append(text if readable else "{}")
        names.update(dict.fromkeys(value if readable else ()))
        numbers.append(number)
    return JsonRows(texts, names, problems=problems, places=Places(numbers, unit))


def problem_of(text, value):
    """What keeps a JSON value from being a row, or None."""
    if isinstance(value, json.JSONDecodeError):
        return f"it is not valid JSON: {value.msg}"
    if not isinstance(value, dict):
        return f"expected an object with a row's fields, found {kind_of(value)}"
    if text.count("[") + text.count("{") > DEEPEST and depth(value) > DEEPEST:
        return f"nested deeper than {DEEPEST} levels"
    return None


def kind_of(value):
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def rows_of_columns(path, table, text):
    """The rows of an object of columns, each a list or, as pandas writes it, an object by row.

    Args:
        table, text: the object as a value, and as it is written: a value's text goes into its row unchanged.
    """
    keys = {name: list(range(len(v)) if isinstance(v, list) else v) for name, v in table.items() if is_column(v)}
    first = next(iter(keys.values()), [])
    of_rows = [
        name for name, value in table.items() if isinstance(value, list) and isinstance(next(iter(value), 0), dict)
    ]
    sets = sets_like(path, of_rows)
    if sets or len(keys) < len(table) or any(set(found) != set(first) for found in keys.values()):
        named = ", ".join(sets)
        advice = (
            f"; if it is a file of a public set ({named}), give --dataset_name {named.split(',')[0]} --data_dir FOLDER"
        )
        raise ValueError(
            f"{path}: expected an array of rows, or an object of columns of one length, found an object with "
            f"{', '.join(list(table)[:10])}{advice if sets else ''}"
        )
    columns = {json.dumps(name): cell_texts(path, column) for name, column in each_once(path, text).items()}
    rows = ({name: cells[key] for name, cells in columns.items()} for key in first)
    texts = ["{" + ", ".join(f"{name}: {cell}" for name, cell in row.items()) + "}" for row in rows]
    return json_rows(((number, text, json.loads(text)) for number, text in enumerate(texts, 1)), "row")


def is_column(values):
    return isinstance(values, (list, dict))


def cell_texts(path, column):
    """The text of each value of a column that is a JSON list or object: its place or key -> text."""
    if column.startswith("{"):
        return each_once(path, column)
    return {place: text for place, (_, text, _) in enumerate(array_items(column, 0)[0])}


def each_once(path, text):
    """The fields of a JSON object, name -> text; a name that comes twice is refused, for it is of many rows."""
    pairs = list(object_items(text))
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError(f"{path}: the key {repeated_name(pairs)!r} comes twice in one object; only one can be meant")
    return fields


def repeated_name(pairs):
    names = set()
    return next(name for name, _ in pairs if name in names or names.add(name))


class RepeatedKey:
    """Finds what `json` is silent about: a key that comes twice in one object, of which the last would win."""

    def __init__(self):
        self.found = None
        self.decoder = json.JSONDecoder(object_pairs_hook=self.read)

    def of(self, text):
        """The first such key of a JSON text, or None."""
        self.found = None
        self.decoder.decode(text)
        return self.found

    def read(self, pairs):
        value = dict(pairs)
        if len(value) < len(pairs) and self.found is None:
            self.found = repeated_name(pairs)
        return value


def read_parquet(path):
    """The rows of a Parquet file, with the `datasets` features that it may have been written with."""
    try:
        return table_dataset(pyarrow.parquet.ParquetFile(path).read())
    except UNREADABLE as error:
        raise ValueError(f"{path} is not valid parquet: {error}") from error


def table_dataset(table):
    """The rows of an Arrow table with types that `datasets` knows, without the index that pandas has written."""
    table.validate(full=True)  # texts that are no UTF-8
    index = (table.schema.pandas_metadata or {}).get("index_columns", [])
    table = table.drop_columns([name for name in index if isinstance(name, str) and name in table.column_names])
    for place, field in enumerate(table.schema):
        column = known_type(table.column(place))
        table = table.set_column(place, field.with_type(column.type), column)
    return Dataset(InMemoryTable(table))


def known_type(column):
    """A column as a type that `datasets` knows: the categories of pandas as their values, maps as their JSON text."""
    if pyarrow.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    try:
        generate_from_arrow_type(column.type)
    except (ValueError, NotImplementedError):
        values = (as_meant(value, column.type) for value in column.to_pylist())
        texts = [None if value is None else json_text(value) for value in values]
        return pyarrow.chunked_array([pyarrow.array(texts, pyarrow.string())])
    return column


def as_meant(value, kind):
    """A value of an Arrow type with 0.1 where 32 bits hold 0.10000000149011612."""
    if value is None:
        return None
    if kind in (pyarrow.float16(), pyarrow.float32()):
        return shortest(value, kind.to_pandas_dtype())
    if pyarrow.types.is_map(kind):
        return [[as_meant(key, kind.key_type), as_meant(item, kind.item_type)] for key, item in value]
    if pyarrow.types.is_struct(kind):
        return {field.name: as_meant(value[field.name], field.type) for field in kind}
    return [as_meant(item, kind.value_type) for item in value] if isinstance(value, list) else value

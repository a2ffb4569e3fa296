"""Rows as their source has them: a row's own fields are written again as they were read.

`JsonRows` are those of JSON and CSV files, `PythonRows` those of lists and tables in Python, a `datasets.Dataset`
those of Parquet files and of the Hub.
"""

import json
import re

import numpy as np
import pyarrow
from datasets import ClassLabel, LargeList, List
from datasets.features.features import require_decoding

from .image_loading_dualvqa import is_image_object
from .places import JoinedPlaces, counted

DECODER = json.JSONDecoder()
SPACE = re.compile(r"[ \t\r\n]*")
LINE_BREAK = re.compile(r"[ \t]*[\r\n][ \t\r\n]*")  # never inside a JSON string
LARGEST_INTEGER = 2**63
CHUNK = 1000  # rows that are taken from a table at a time


class JsonRows:
    """Rows as JSON objects, with the columns and rows by name and number that a `datasets.Dataset` has.

    Their text is kept, not their values: a parsed number or escape can't be written to the byte.

    Args:
        texts: the JSON object of each row.
        column_names: of all rows. A row that lacks one has None there.
        all_text: whether the file knows only text, as CSV.
        problems: row number from 0 -> what is wrong with it: such rows are bad ones.
        places: [`Places`], counted from 1 when left out.
        repeated: names that several columns of the source have, of which only the first is called so here.
    """

    def __init__(self, texts, column_names, all_text=False, problems=None, places=None, repeated=()):
        self.texts, self.column_names, self.all_text = texts, list(column_names), all_text
        self.problems, self.repeated = problems or {}, set(repeated)
        self.places = places or counted(len(texts))

    @classmethod
    def joined(cls, parts):
        """The rows of several files in one, with the columns of all.

        Args:
            parts: name -> rows.
        """
        texts, names, problems = [], {}, {}
        for part in parts.values():
            problems |= {len(texts) + row: problem for row, problem in part.problems.items()}
            texts += part.texts
            names |= dict.fromkeys(part.column_names)
        places = JoinedPlaces([(name, part.places, len(part)) for name, part in parts.items()])
        places = places if len(parts) > 1 else next(iter(parts.values())).places
        repeated = set().union(*(part.repeated for part in parts.values()))
        return cls(texts, names, any(part.all_text for part in parts.values()), problems, places, repeated)

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, key):
        if isinstance(key, str):
            return self.columns([key])[key]
        return {**dict.fromkeys(self.column_names), **json.loads(self.texts[key])}

    def columns(self, names):
        """The values of some columns, read in one pass: name -> list."""
        found = {name: [] for name in names}
        for text in self.texts:
            row = json.loads(text)
            for name, values in found.items():
                values.append(row.get(name))
        return found


class PythonRows:
    """Rows as Python objects, with the columns by name that a `datasets.Dataset` has.

    Args:
        values: column -> the value of each row.
        problems, places, repeated: as of [`JsonRows`].
    """

    def __init__(self, values, problems=None, places=None, repeated=()):
        self.values, self.column_names = values, list(values)
        self.problems, self.repeated = problems or {}, set(repeated)
        self.places = places or counted(len(self))

    def __len__(self):
        return len(next(iter(self.values.values()), ()))

    def columns(self, names):
        """The values of some columns: name -> list."""
        return {name: self.values[name] for name in names}


def column_values(rows, names):
    """The values of some columns as Python has them: name -> list.

    Images stay encoded, a class is its name and not its number, and a float of 32 bits the number that was meant.
    """
    if isinstance(rows, (JsonRows, PythonRows)):
        return rows.columns(names)
    table, features = rows.select_columns(list(names)).with_format("arrow")[:], rows.features  # copied at each access
    return {name: [plain(value, features[name]) for value in python_list(table.column(name))] for name in names}


def python_list(column):
    """The values of an Arrow column, of an extension type as they are stored."""
    column = column.combine_chunks().storage if hasattr(column.type, "storage_type") else column
    try:
        return column.to_pylist()
    except (OverflowError, ValueError):  # times that Python doesn't know, as they are stored
        return column.cast(pyarrow.int64()).to_pylist()


def plain(value, feature, names=True):
    """A value as a person would write it: see `column_values`.

    Args:
        feature: its `datasets` feature, None where it isn't known.
        names: whether a class is its name; a number without one, as -1 of hidden answers, is None then.
    """
    if value is None or feature is None:
        return value
    if isinstance(feature, ClassLabel):
        if not names or isinstance(value, str):
            return value
        return feature.names[value] if 0 <= value < len(feature.names) else None
    if getattr(feature, "dtype", None) in ("float16", "float32"):  # 0.1, not 0.10000000149011612
        if isinstance(value, list):  # an array
            return [plain(item, feature, names) for item in value]
        return shortest(value, feature.dtype)
    if isinstance(feature, dict) and isinstance(value, dict):
        return {name: plain(item, feature.get(name), names) for name, item in value.items()}
    if isinstance(feature, (List, LargeList, list)) and isinstance(value, list):
        inner = feature[0] if isinstance(feature, list) else feature.feature
        return [plain(item, inner, names) for item in value]
    return value


def shortest(value, dtype):
    """A number of 16 or 32 bits as the shortest that is stored as it."""
    return float(str(np.dtype(dtype).type(value)))


def row_fields(rows, numbers):
    """For each of some row numbers its fields: name -> JSON text.

    Of JSON it is that of the file, to the byte but for line breaks. Of an embedded image it is its path, or a word.
    """
    if isinstance(rows, JsonRows):
        for number in numbers:
            yield {name: LINE_BREAK.sub(" ", text) for name, text in object_items(rows.texts[number])}
        return
    if isinstance(rows, PythonRows):
        for number in numbers:
            yield {name: json_text(values[number]) for name, values in rows.values.items()}
        return
    table, features = rows.with_format("arrow"), rows.features
    numbers = [int(number) for number in numbers]
    for start in range(0, len(numbers), CHUNK):
        found = table[numbers[start : start + CHUNK]]
        columns = {name: python_list(found.column(name)) for name in features}
        for row in zip(*columns.values()):
            values = zip(columns, row)
            yield {name: json_text(plain(value, features[name], names=False)) for name, value in values}


def object_items(text):
    """The fields of a JSON object: pairs of a name and the text of its value."""
    place = skip_space(text, skip_space(text, 0) + 1)
    while text[place] != "}":
        name, place = DECODER.raw_decode(text, place)
        start = skip_space(text, skip_space(text, place) + 1)  # after the colon
        _, place = DECODER.raw_decode(text, start)
        yield name, text[start:place]
        place = skip_space(text, place)
        place = skip_space(text, place + 1) if text[place] == "," else place


def skip_space(text, place):
    return SPACE.match(text, place).end()


def json_text(value):
    """A value as JSON, with words for what JSON can't hold."""
    text = json.dumps(in_words(value), ensure_ascii=False, default=str)
    return text if writable(text) else json.dumps(in_words(value), default=str)


def in_words(value):
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if is_image_object(value):
        return "embedded image"
    if isinstance(value, (list, tuple)):
        return [in_words(item) for item in value]
    if isinstance(value, dict) and set(value) == {"bytes", "path"}:
        return value["path"] or ("embedded image" if value["bytes"] is not None else None)
    if isinstance(value, np.generic):
        return in_words(value.item())
    if isinstance(value, dict):
        return {str(name): in_words(item) for name, item in value.items()}
    return value


def own_columns(rows, names, numbers):
    """Further columns of canonical rows, of one type each, with columns of several types as JSON text.

    They are for what a run does with them, such as results by column; what a file says is in `row_fields`. Images
    besides the question's are left out.

    Args:
        numbers: the rows to take.

    Returns:
        name -> list of values.
    """
    if isinstance(rows, (JsonRows, PythonRows)):
        columns = rows.columns(filter(is_column, names))
    else:
        columns = column_values(rows, [name for name in names if not require_decoding(rows.features[name])])
    return {name: same_type([values[number] for number in numbers]) for name, values in columns.items()}


def is_column(name):
    """Whether Arrow can have a column of that name."""
    return name and "\0" not in name and writable(name)


def same_type(values):
    """Texts, truth values, integers or floats as they are; what mixes them, or is something else, as JSON text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int} and all(value is None or -LARGEST_INTEGER <= value < LARGEST_INTEGER for value in values):
        return values
    if kinds <= {bool} or kinds == {float} or (kinds == {str} and all(map(writable, values))):
        return values
    return [v if v is None or (isinstance(v, str) and writable(v)) else json_text(v) for v in values]


def writable(text):
    """Whether a text, if it is one, has no half of a surrogate pair, which no file can hold."""
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        return False
    return True

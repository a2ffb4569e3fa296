"""The columns of an output that is a table, and what kind of values each has: known before its first row is written."""

import json

from datasets import ClassLabel, Dataset

from processing.predictions import NAMES, own_name
from processing.row_streams import PassingRows, TableRows
from processing.rows import row_fields, writable

WHOLE, NUMBER, TRUTH, TEXT = "whole number", "number", "truth value", "text"
SAID = (*NAMES, "error")  # what is said of a question, behind the row's own fields
LARGEST_INTEGER = 2**63


def output_columns(stream, said=SAID):
    """name -> kind of the row's own columns in the output, those of all files, found in one pass without the images.

    Whole numbers and others are numbers together, and any other mix is text, in which what is no text is written as
    JSON. Of rows that can be read once only, all columns of the first are text.
    """
    kinds = {}
    for file in stream.files:
        for name, kind in file_columns(file).items():
            kinds[name] = joined(kinds.get(name), kind)
    columns = {name: kind for name, kind in kinds.items() if name not in said}
    for name in filter(kinds.__contains__, said):
        columns[own_name(name, columns)] = kinds[name]
    columns |= dict.fromkeys(set(said) - set(SAID), NUMBER)  # beside those that every output has
    return {name: kind or TEXT for name, kind in columns.items() if writable(name)}


def file_columns(file):
    """name -> kind, None where no row has a value."""
    if isinstance(file, (TableRows, PassingRows)):
        return dict.fromkeys(file.column_names, TEXT)
    kinds = {}
    for piece in file.pieces():
        rows = piece.rows
        if isinstance(rows, Dataset):
            return {name: kind_of_feature(feature) for name, feature in rows.features.items()}
        for fields in row_fields(rows, range(len(rows))):
            for name, text in fields.items():
                if kinds.get(name) != TEXT:
                    kinds[name] = joined(kinds.get(name), kind_of(json.loads(text)))
    return kinds


def kind_of(value):
    if value is None:
        return None
    if isinstance(value, bool):
        return TRUTH
    if isinstance(value, int) and -LARGEST_INTEGER <= value < LARGEST_INTEGER:
        return WHOLE
    return NUMBER if isinstance(value, float) else TEXT


def kind_of_feature(feature):
    kind = getattr(feature, "dtype", None) if not isinstance(feature, ClassLabel) else "int64"
    if kind == "bool":
        return TRUTH
    if kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"):
        return WHOLE
    return NUMBER if kind in ("float16", "float32", "float64") else TEXT


def joined(one, other):
    """The kind of a column that has values of both."""
    if one is None or one == other:
        return other
    if other is None:
        return one
    return NUMBER if {one, other} == {WHOLE, NUMBER} else TEXT


def value_of(text, kind):
    """A field's value as its column has it, from its JSON text."""
    value = json.loads(text)
    if value is None or (kind == TEXT and isinstance(value, str) and writable(value)):
        return value
    return text if kind == TEXT else float(value) if kind == NUMBER else value


def cell(text):
    """A field as a cell of CSV: texts as they are, other values as JSON, nothing for null."""
    value = json.loads(text)
    return "" if value is None else value if isinstance(value, str) and writable(value) else text

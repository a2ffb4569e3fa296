"""Rows of a source -> questions about images, one after another."""

import itertools
from typing import NamedTuple

from processing.canonical import RowReader
from processing.columns import check_once, find_columns
from processing.datasets import read_cells
from processing.rows import column_values, row_fields


class Question(NamedTuple):
    """A row that is to be answered.

    Attributes:
        fields: all that the row says, name -> JSON text.
        image: a path, or a dict with its bytes.
        question: a text.
        problem: why it can't be answered; None of one that can.
        place: where a person finds the row.
    """

    fields: dict
    image: object
    question: str | None
    problem: str | None
    place: str


def read_questions(stream, args, start=0, stop=None):
    """The [`Question`]s of the rows from `start` up to `stop`.

    Args:
        stream: a `RowStream`.
        args: `DataArguments`.

    Raises:
        ValueError: there is no column of images or questions, or a file can't be read.
    """
    return itertools.islice(all_questions(stream, args, start), None if stop is None else max(0, stop - start))


def all_questions(stream, args, start):
    found, several = {}, len(stream.files) > 1
    for piece in stream.pieces(start):
        file, rows = piece.stream, piece.rows
        if file not in found:
            columns = check_columns(file, args)
            found[file] = columns, RowReader(args, file.source, getattr(rows, "all_text", False))
        columns, reader = found[file]
        prefix = f"{file.source}, " if several else ""
        check_once(columns.values(), getattr(rows, "repeated", ()), file.source)
        cells = column_values(rows, [name for name in columns.values() if name in rows.column_names])
        cells = {name: cells.get(column, [None] * len(rows)) for name, column in columns.items()}
        canonical, problems = read_cells(cells, columns, reader)
        problems = {**problems["question"], **problems["image"], **getattr(rows, "problems", {})}
        for row, fields in enumerate(row_fields(rows, range(len(rows)))):
            image, question = canonical["image"][row], canonical["question"][row]
            yield Question(fields, image, question, problems.get(row), f"{prefix}{piece.place(row)}")
    for _, reader in found.values():
        reader.report()


def check_columns(file, args):
    """image, question -> the file's column; answers aren't read.

    Raises:
        ValueError: see `find_columns`.
    """
    columns = find_columns(file.column_names, file.source, args, needs_answers=False)
    return {name: columns[name] for name in ("image", "question")}


def by_image(questions):
    """Lists of questions about one image that follow one another."""
    group = []
    for question in questions:
        if group and not same_image(group[0], question):
            yield group
            group = []
        group.append(question)
    if group:
        yield group


def same_image(one, other):
    return one.problem is None and other.problem is None and one.image == other.image

"""Files of answers that grow, and go on where a run was killed: JSON Lines, CSV, Parquet."""

import csv
import io
import json
import os
import shutil

import pyarrow
import pyarrow.parquet

from processing.predictions import json_line

from .columns import NUMBER, SAID, TEXT, TRUTH, WHOLE, cell, value_of

PART = 2000  # rows of a part of a Parquet file that is growing: so many are asked again after a kill
GROUP = 50_000  # rows of a row group of one that is whole
ARROW = {WHOLE: pyarrow.int64(), NUMBER: pyarrow.float64(), TRUTH: pyarrow.bool_(), TEXT: pyarrow.string()}
ANSWERS = pyarrow.list_(pyarrow.struct([("answer", pyarrow.string()), ("score", pyarrow.float64())]))
# What is said of a question, by its type; all else is text.
FOREIGN = pyarrow.struct([("image", pyarrow.bool_()), ("question", pyarrow.bool_())])
SAID_ARROW = {"score": pyarrow.float64(), "top_k": ANSWERS, "unfamiliar": FOREIGN}


class TextOutput:
    """A text that rows are added to. What stands behind the last row that a record knows was cut off in a kill.

    Args:
        path: the file.
        columns: see `output_columns`; None where rows have fields of their own.
        state: what `write` gave last; {} for a new file.

    Raises:
        ValueError: the file is shorter than it was.
    """

    is_table = False

    def __init__(self, path, columns, state):
        self.columns, size = columns, state.get("bytes", 0)
        found = os.path.getsize(path) if os.path.exists(path) else 0
        if found < size:
            raise ValueError(f"{path}: expected the {size} bytes written, found {found}; delete it and start again")
        self.file = open(path, "r+b" if found else "wb")
        self.file.truncate(size)
        self.file.seek(size)
        if not size:
            self.file.write(self.head())

    def head(self):
        return b""

    def text(self, rows):
        return "".join(map(json_line, rows))

    def write(self, rows):
        """Adds rows, name -> JSON text each.

        Returns:
            The rows that are in the file now and were not before, and what is to be remembered of it.
        """
        self.file.write(self.text(rows).encode())
        self.file.flush()
        return rows, {"bytes": self.file.tell()}

    def finish(self):
        """Writes what waits, and gives what `write` gives."""
        return self.write([])

    def clear(self):
        """Removes what only a run that goes on needs, once the record says that the output is whole."""

    def close(self):
        self.file.close()


class TableOutput(TextOutput):
    """The same as CSV, with a row of names."""

    is_table = True

    def head(self):
        return csv_text([[*self.columns, *SAID]]).encode()

    def text(self, rows):
        check_fields(rows, self.columns)
        return csv_text([[cell(row.get(name, "null")) for name in (*self.columns, *SAID)] for row in rows])


class ParquetOutput:
    """A Parquet file, of parts in the folder `PATH.parts` until it is whole; arguments as of [`TextOutput`]."""

    is_table = True

    def __init__(self, path, columns, state):
        self.path, self.columns, self.parts, self.waiting = path, columns, state.get("parts", 0), []
        self.folder = f"{path}.parts"
        os.makedirs(self.folder, exist_ok=True)
        for name in set(os.listdir(self.folder)) - {self.name(part) for part in range(self.parts)}:
            os.remove(os.path.join(self.folder, name))
        if len(os.listdir(self.folder)) < self.parts:
            raise ValueError(f"{self.folder}: expected {self.parts} parts, found fewer; delete {path}* and start again")
        types = {name: ARROW[kind] for name, kind in columns.items()}
        types |= {name: SAID_ARROW.get(name, pyarrow.string()) for name in SAID}
        self.schema = pyarrow.schema(types.items())

    def name(self, part):
        return f"{part:08}.parquet"

    def write(self, rows):
        """As of [`TextOutput`]; rows wait for a part to be full."""
        check_fields(rows, self.columns)
        self.waiting += rows
        return self.write_part() if len(self.waiting) >= PART else ([], {"parts": self.parts})

    def write_part(self):
        columns = {
            name: [value_of(row.get(name, "null"), kind) for row in self.waiting] for name, kind in self.columns.items()
        }
        columns |= {name: [json.loads(row.get(name, "null")) for row in self.waiting] for name in SAID}
        with written(os.path.join(self.folder, self.name(self.parts))) as path:
            pyarrow.parquet.write_table(pyarrow.table(columns, self.schema), path)
        rows, self.parts, self.waiting = self.waiting, self.parts + 1, []
        return rows, {"parts": self.parts}

    def finish(self):
        rows = self.write_part()[0] if self.waiting or not self.parts else []
        join_parquet([os.path.join(self.folder, self.name(part)) for part in range(self.parts)], self.path)
        return rows, {"bytes": os.path.getsize(self.path)}

    def clear(self):
        shutil.rmtree(self.folder)

    def close(self):
        pass


OUTPUTS = {".jsonl": TextOutput, ".csv": TableOutput, ".parquet": ParquetOutput}


def output_kind(path):
    """The class of an output, by the end of its name.

    Raises:
        ValueError: another end.
    """
    end = os.path.splitext(path)[1].lower()
    if end not in OUTPUTS:
        raise ValueError(f"expected an output ending in {', '.join(OUTPUTS)}; found {path}")
    return OUTPUTS[end]


def csv_text(rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def check_fields(rows, columns):
    """
    Raises:
        ValueError: a row has a field that is no column: none of the rows that came first had it.
    """
    for row in rows:
        others = row.keys() - columns.keys() - set(SAID)
        if others:
            raise ValueError(
                f"a row has {', '.join(map(repr, sorted(others)))}, and the columns of the output are those of the "
                f"first rows, {', '.join(columns)}; write JSON Lines, or give all rows all columns"
            )


class written:
    """A path to write a file to that takes its place once it is whole."""

    def __init__(self, path):
        self.path, self.aside = path, f"{path}.tmp"

    def __enter__(self):
        return self.aside

    def __exit__(self, kind, *_):
        if kind is None:
            os.replace(self.aside, self.path)
        elif os.path.exists(self.aside):
            os.remove(self.aside)


def join_parquet(paths, output):
    """Parquet files of the same columns, one behind the other, as one whose row groups have `GROUP` rows each."""
    schema = pyarrow.parquet.read_schema(paths[0])
    with written(output) as aside, pyarrow.parquet.ParquetWriter(aside, schema) as writer:
        waiting, rows = [], 0
        for path in paths:
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(GROUP):
                    waiting.append(batch)
                    rows += len(batch)
                    while rows >= GROUP:
                        table = pyarrow.Table.from_batches(waiting, schema)
                        writer.write_table(table.slice(0, GROUP))
                        waiting, rows = table.slice(GROUP).to_batches(), rows - GROUP
        if rows:
            writer.write_table(pyarrow.Table.from_batches(waiting, schema), GROUP)

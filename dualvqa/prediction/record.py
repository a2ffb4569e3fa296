"""The record beside an output: of which model, data and settings its rows are, and how many of them are written."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os

from filelock import FileLock, Timeout

from processing.hub_rows import HubRows
from processing.row_streams import HeldRows, PassingRows
from processing.rows import row_fields

from .outputs import written

logger = logging.getLogger(__name__)

FORMAT = 1
BLOCK, BLOCKS = 2**20, 1024  # a file of up to a GiB is read whole for its digest, of a larger one so many blocks
# What each part of a record is in words, where it is not that of the output that is there.
SAME = {
    "model": "another model",
    "data": "other data",
    "settings": "other settings",
    "part": "another shard",
}


class Record:
    """What is remembered of an output while it grows, in `OUTPUT.record.json`.

    Args:
        output: path of the output.
        of: what must be the same to go on: `model`, `data`, `settings` and `part`, whatever JSON can hold.

    Raises:
        ValueError: the output is there and has no record, or that of another run.
    """

    def __init__(self, output, of):
        self.path, self.output = record_path(output), output
        self.values = {"format": FORMAT, **of, "rows": 0, "bad": 0, "whole": False, "state": {}}
        if os.path.exists(self.path):
            found = self.same(read_record(output), of)
            if os.path.exists(output) or os.path.exists(f"{output}.parts"):  # where a Parquet file grows
                self.values = found
            elif found["rows"]:
                logger.warning("%s is gone, and its record has %d rows: asking all anew", output, found["rows"])
        elif os.path.exists(output):
            raise ValueError(f"{output} is there already, without its record {self.path}: give another output")

    def same(self, found, of):
        for name, words in SAME.items():
            if found[name] != of[name] or of[name] is None:
                why = differences(found[name], of[name]) if of[name] is not None else "which can be read only once"
                raise ValueError(
                    f"{self.output} was begun with {words} ({why}): give another output, or delete it and {self.path}"
                )
        return found

    def write(self, **values):
        """Remembers what has changed."""
        self.values |= values
        with written(self.path) as aside, open(aside, "w", encoding="utf-8") as file:
            json.dump(self.values, file, ensure_ascii=False, indent=1)

    def add(self, rows, state, whole=False):
        """Remembers that rows are in the file now, and what the file says of itself."""
        bad = sum("error" in row for row in rows)
        self.write(rows=self.values["rows"] + len(rows), bad=self.values["bad"] + bad, state=state, whole=whole)


def record_path(output):
    return f"{output}.record.json"


def read_record(output):
    """What the record of an output holds.

    Raises:
        ValueError: there is none, or it is damaged or of another format.
    """
    path = record_path(output)
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        kind = found["format"]
    except FileNotFoundError as error:
        raise ValueError(f"{output} has no record {path}: it is not what `dualvqa predict` has written") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and {output}") from error
    if kind != FORMAT:
        raise ValueError(f"{path} is of format {kind}, this version reads format {FORMAT}")
    return found


def check_whole(output, record):
    """
    Raises:
        ValueError: the output of a whole run has another size than its run left: it was copied in part, or edited.
    """
    wanted, size = record["state"]["bytes"], os.path.getsize(output)
    if size != wanted:
        raise ValueError(
            f"{output} was changed since it was written: expected {wanted} bytes, found {size}; copy it again, or "
            f"delete it and start its run again"
        )


def differences(found, now):
    """What differs, in words."""
    if isinstance(found, dict) and isinstance(now, dict):
        names = [name for name in {**found, **now} if found.get(name) != now.get(name)]
        return ", ".join(f"{name} {found.get(name)!r} then, {now.get(name)!r} now" for name in names)
    return "its digest differs"


def data_digest(stream):
    """What tells whether data are the same: of each file, or of rows in Python; None of rows that pass only once."""
    if isinstance(stream, PassingRows):
        return None
    return [digest_of(file) for file in stream.files]


def digest_of(file):
    if isinstance(file, HubRows):
        return file.digest
    return rows_digest(file) if held_in_python(file) else file_digest(file.source)


def held_in_python(file):
    return isinstance(file, HeldRows) and not os.path.isfile(file.source)


def rows_digest(file):
    digest = hashlib.sha256()
    for fields in row_fields(file.rows, range(len(file.rows))):
        digest.update(json.dumps(fields).encode())
    return digest.hexdigest()


def file_digest(path):
    """Hash of a file's size and content; of one above a GiB, of blocks spread over it."""
    size = os.path.getsize(path)
    starts = range(0, size, BLOCK)
    if len(starts) > BLOCKS:
        starts = [size * number // BLOCKS for number in range(BLOCKS)][:-1] + [size - BLOCK]
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for start in starts:
            file.seek(start)
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def changed_fields(settings):
    """The fields of a dataclass that aren't at their default."""
    return {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if getattr(settings, field.name) != default_of(field)
    }


def default_of(field):
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


@contextlib.contextmanager
def held(output):
    """Holds an output for one process.

    Raises:
        ValueError: another holds it, or its folder can't be written into.
    """
    lock = FileLock(f"{output}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"another process is writing {output}: wait until it has ended") from None
    except OSError as error:
        raise ValueError(f"{output} can't be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.remove(lock.lock_file)
        lock.release()

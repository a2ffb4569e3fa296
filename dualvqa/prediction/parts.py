"""One output cut into parts, each the work of a process of its own, and put together again."""

import glob
import os
import re
import shutil

from .outputs import ParquetOutput, TableOutput, join_parquet, output_kind, written
from .record import check_whole, differences, read_record

SHARD = re.compile(r"(\d+)/(\d+)")


def read_shard(text):
    """ "3/16" -> (3, 16)

    Raises:
        ValueError: something else.
    """
    found = SHARD.fullmatch(str(text))
    number, parts = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= parts:
        raise ValueError(f"expected shard as part/parts, such as 3/16, from 1/16 to 16/16; found {text!r}")
    return number, parts


def part_path(output, number, parts):
    """answers.jsonl -> answers-00003-of-00016.jsonl"""
    stem, end = os.path.splitext(output)
    return f"{stem}-{number:05}-of-{parts:05}{end}"


def part_rows(rows, batch_size, number, parts):
    """The first row of a part, and the one behind its last: parts follow one another, cut between two batches."""
    batches = -(-rows // batch_size)
    ends = (batches * part // parts * batch_size for part in (number - 1, number))
    return tuple(min(end, rows) for end in ends)


def merge_predictions(output):
    """Puts the parts of an output together: the file of a run without `shard`.

    Args:
        output: its path, as it was given to each of the runs.

    Returns:
        The number of rows.

    Raises:
        ValueError: a part is missing, not whole, changed since, another part than its name says, or of another run than
            others; or the output is there.
    """
    output = os.fspath(output)
    kind = output_kind(output)
    if os.path.exists(output):
        raise ValueError(f"{output} is there already: delete it, or leave it")
    stem, end = os.path.splitext(output)
    found = glob.glob(f"{glob.escape(stem)}-?????-of-?????{end}")
    counts = sorted({int(path.removesuffix(end)[-5:]) for path in found})
    if len(counts) != 1:
        parts = ", ".join(map(str, counts)) or "none"
        raise ValueError(f"expected the parts {part_path(output, 1, 2)} and so on, of one number; found {parts}")
    paths = [part_path(output, number, counts[0]) for number in range(1, counts[0] + 1)]
    records = {path: checked_record(path, f"{number}/{counts[0]}") for number, path in enumerate(paths, start=1)}
    first = records[paths[0]]
    for path, record in records.items():
        for name in ("model", "data", "settings"):
            if record[name] != first[name]:
                why = differences(first[name], record[name])
                raise ValueError(f"{path} and {paths[0]} are of runs with another {name}: {why}")
    if kind is ParquetOutput:
        join_parquet(paths, output)
    else:
        with written(output) as aside, open(aside, "wb") as whole:
            for number, path in enumerate(paths):
                with open(path, "rb") as part:
                    if number and kind is TableOutput:
                        part.readline()  # the names, none of which has a line break
                    shutil.copyfileobj(part, whole)
    return sum(record["rows"] for record in records.values())


def checked_record(path, shard):
    if not os.path.exists(path):
        raise ValueError(f"{path} is missing: run that part, with --shard")
    record = read_record(path)
    if not record["whole"]:
        raise ValueError(f"{path} is not whole, it has {record['rows']} rows: start its run again, and it goes on")
    if record["part"] != {"shard": shard}:
        found = record["part"].get("shard") or "no shard"
        raise ValueError(f"{path} is by its record {found}, and by its name {shard}: give it its own name again")
    check_whole(path, record)
    return record

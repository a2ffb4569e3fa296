"""Data files as their rows say, before anything is made of them."""

import json
import os

import pandas
from datasets import Dataset

READERS = {
    ".jsonl": lambda path: pandas.read_json(path, lines=True, dtype=False),
    ".json": lambda path: pandas.read_json(path, dtype=False),
    ".csv": lambda path: pandas.read_csv(path, keep_default_na=False, dtype=str),  # "none" and "NA" are answers
    ".parquet": pandas.read_parquet,
}


def read_file(path):
    """A data file as a Dataset, its values as they are; columns that mix types become strings."""
    kind = os.path.splitext(path)[1].lower()
    if kind not in READERS:
        raise ValueError(f"{path}: expected a file ending in {', '.join(READERS)}")
    if not os.path.isfile(path):
        raise ValueError(f"{path}: no such file")
    if not os.path.getsize(path):
        raise ValueError(f"{path} has no rows")
    try:
        frame = READERS[kind](path)
    except Exception as error:
        line = bad_json_line(path) if kind == ".jsonl" else None
        raise ValueError(f"{path}{f' line {line}' if line else ''} is not valid {kind[1:]}: {error}") from error
    for name in frame.columns:
        if frame[name].map(type).nunique() > 1:
            frame[name] = frame[name].map(to_text)
    return Dataset.from_pandas(frame, preserve_index=False)


def bad_json_line(path):
    """Number of the first line of `path` that is no JSON, from 1."""
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                json.loads(line or "null") if line.strip() else None
            except json.JSONDecodeError:
                return number


def to_text(value):
    """A cell as text; None for a missing one. Lists, of several people's answers, stay lists."""
    if isinstance(value, (list, tuple)) or (hasattr(value, "tolist") and getattr(value, "ndim", 0)):
        return [to_text(item) for item in value]
    if isinstance(value, dict):  # VQA v2 wraps each answer: {"answer": ..., "answer_confidence": ...}
        return to_text(value.get("answer"))
    if value is None or value != value:
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

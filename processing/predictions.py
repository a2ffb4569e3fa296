"""The predictions file: one JSON line per question."""

import json

import torch

from .outputs import named_logits
from .processing_dualvqa import QUESTION_TYPES
from .promises_dualvqa import Promises, groups_of_column
from .rows import row_fields, writable

NAMES = ("answer", "score", "question_type", "top_k", "best_guess", "unfamiliar")


CHUNK = 1000  # answers of all rows at once would take hundreds of bytes for each


def ranked_arrays(logits, processor, top_k):
    """The Trainer's logits of a batch as the arrays of `processor.rank`, in its order, for `decoded` to take up."""
    return tuple(processor.rank(named_logits(logits, processor), top_k).values())


def decoded(arrays, processor, rows=None):
    """What `post_process_question_answering` gives, question by question, from arrays of `ranked_arrays`.

    Args:
        rows: canonical, those of the questions; promises that were made by a column take each one's group from it.
    """
    arrays = list(arrays)
    unfamiliar = {"unfamiliar": arrays.pop()} if arrays[-1].ndim == 1 else {}
    heads = [name for name in QUESTION_TYPES if name == "binary" or processor.answers]
    if len(arrays) == 2:
        heads = heads[-1:]
    names = [f"{head}_{kind}" for head in heads for kind in ("scores", "indices")] + ["question_type_scores"]
    ranked = {name: torch.as_tensor(array) for name, array in {**dict(zip(names, arrays)), **unfamiliar}.items()}
    groups = groups_of_rows(rows, processor.calibration) or [None] * len(arrays[0])
    for start in range(0, len(arrays[0]), CHUNK):
        promises = Promises(processor.calibration, group=groups[start : start + CHUNK])
        chunk = {name: tensor[start : start + CHUNK] for name, tensor in ranked.items()}
        yield from processor.decode(chunk, promises=promises)


def groups_of_rows(rows, calibration):
    """The group of each row, None for one that the promises of a calibration don't know; None without their column."""
    column, known = groups_of_column(calibration or {})
    if rows is None or column not in rows.column_names:
        return None
    return [str(value) if str(value) in known else None for value in rows[column][:]]


def write_predictions(path, answers, row_numbers, raw):
    """Writes each row's own fields, then its best answer's `answer`, `score` and `question_type`, and all as `top_k`.

    Where the question is left unanswered `answer` is null and `best_guess` beside it, and `top_k` has the guesses all
    the same; where it is unfamiliar, `unfamiliar` says what.

    A field of the row that has one of these names is kept as `source_` + its name.

    Args:
        path: the file, JSON Lines.
        answers: for each question what `post_process_question_answering` gives.
        row_numbers: for each question the number of its row in `raw`.
        raw: the rows as their source has them, see `processing.rows`: what they say is written to the byte of its
            JSON, of embedded images only the path or a word.
    """
    with open(path, "w", encoding="utf-8") as file:
        for fields, best in zip(row_fields(raw, row_numbers), answers):
            file.write(json_line(with_answer(fields, said_of(best))))


def said_of(best):
    """What is written about a question, from what `post_process_question_answering` gives for it."""
    best_answers = [{"answer": item.get("best_guess", item["answer"]), "score": item["score"]} for item in best]
    return {**best[0], "top_k": best_answers}


def with_answer(fields, said, names=NAMES):
    """A row's own fields, and behind them what is said of it: name -> JSON text.

    Args:
        fields: name -> JSON text. One that has a name of `names` becomes `source_` + its name.
        said: name -> value.
    """
    line = {name: text for name, text in fields.items() if name not in names}
    for name in filter(fields.get, names):
        line[own_name(name, line)] = fields[name]
    return {**line, **{name: json.dumps(value, ensure_ascii=False) for name, value in said.items()}}


def own_name(name, taken):
    """A name for the field of a row that is called as one of a prediction."""
    place = f"source_{name}"
    while place in taken:  # of an earlier predictions file
        place = f"source_{place}"
    return place


def json_line(line):
    """A line of JSON from name -> JSON text."""
    return "{" + ", ".join(f"{name_text(name)}: {text}" for name, text in line.items()) + "}\n"


def name_text(name):
    """A field's name as JSON; one that no file can hold is escaped, as it was in the row's own file."""
    return json.dumps(name, ensure_ascii=not writable(name))

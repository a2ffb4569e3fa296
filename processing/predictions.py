"""The predictions file: one JSON line per question."""

import json

import torch

from .metrics import named_logits
from .processing_dualvqa import QUESTION_TYPES

NAMES = ("answer", "score", "question_type", "top_k", "best_guess", "unfamiliar")


CHUNK = 1000  # answers of all rows at once would take hundreds of bytes for each


def ranked_arrays(logits, processor, top_k):
    """The Trainer's logits of a batch as the arrays of `processor.rank`, in its order, for `decoded` to take up."""
    return tuple(processor.rank(named_logits(logits, processor), top_k).values())


def decoded(arrays, processor):
    """What `post_process_question_answering` gives, question by question, from arrays of `ranked_arrays`."""
    arrays = list(arrays)
    unfamiliar = {"unfamiliar": arrays.pop()} if arrays[-1].ndim == 1 else {}
    heads = [name for name in QUESTION_TYPES if name == "binary" or processor.answers]
    if len(arrays) == 2:
        heads = heads[-1:]
    names = [f"{head}_{kind}" for head in heads for kind in ("scores", "indices")] + ["question_type_scores"]
    ranked = {name: torch.as_tensor(array) for name, array in {**dict(zip(names, arrays)), **unfamiliar}.items()}
    for start in range(0, len(arrays[0]), CHUNK):
        yield from processor.decode({name: tensor[start : start + CHUNK] for name, tensor in ranked.items()})


def write_predictions(path, answers, row_numbers, raw):
    """Writes each row's own fields, then its best answer's `answer`, `score` and `question_type`, and all as `top_k`.

    Where the question is left unanswered `answer` is null and `best_guess` beside it, and `top_k` has the guesses all
    the same; where it is unfamiliar, `unfamiliar` is true.

    A field of the row that has one of these names is kept as `source_` + its name.

    Args:
        path: the file, JSON Lines.
        answers: for each question what `post_process_question_answering` gives.
        row_numbers: for each question the number of its row in `raw`.
        raw: the Dataset as its source has it. Of embedded images only the path is written.
    """
    with open(path, "w", encoding="utf-8") as file:
        for number, best in zip(row_numbers, answers):
            line = {}
            for name, value in raw[number].items():
                if isinstance(value, dict) and "bytes" in value:
                    value = value.get("path")
                line[f"source_{name}" if name in NAMES else name] = value
            line |= best[0]
            line["top_k"] = [
                {"answer": item.get("best_guess", item["answer"]), "score": item["score"]} for item in best
            ]
            file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")

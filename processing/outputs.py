"""Logits of many questions: by name, a few at a time, and as answers."""

import torch

NOVELTIES = ("image_novelty", "question_novelty")
CHUNK = 2**20  # logits that are worked on at a time


def named_logits(arrays, processor):
    """The Trainer's prediction arrays as a dict of tensors, as the model's output names them."""
    arrays = list(arrays) if isinstance(arrays, tuple) else [arrays]
    flat = [array for array in arrays if array.ndim == 1]  # what a model says of familiarity, behind the logits
    arrays = arrays[: len(arrays) - len(flat)]
    novelty = dict(zip(NOVELTIES if len(flat) == 2 else ("novelty",), flat))
    names = ["binary_logits", "open_ended_logits", "question_type_logits"]
    if len(arrays) == 1:
        names = ["open_ended_logits"] if processor.answers else ["binary_logits"]
    return {name: torch.as_tensor(array) for name, array in {**dict(zip(names, arrays)), **novelty}.items()}


def answers_of(prediction, processor, top_k=1):
    """The answers that a Trainer's predictions stand for, for a `compute_metrics` of one's own.

    Args:
        prediction: an EvalPrediction, or what `predict` gives.
        processor: the model's.
        top_k: answers per question.

    Returns:
        For each question a list of dicts with `answer`, `score` and `question_type`, the best first, as
        `post_process_question_answering` gives them; none is left unanswered.
    """
    outputs = named_logits(getattr(prediction, "predictions", prediction), processor)
    ranked = joined(
        (processor.rank(chunk, top_k) for _, chunk in output_chunks(outputs)), len(next(iter(outputs.values())))
    )
    return list(processor.decode(ranked, abstain=False))


def row_chunks(rows, width):
    """The rows in pieces of which one's logits are a few megabytes, so that memory doesn't grow with their number."""
    return rows.split(max(1, CHUNK // width))


def output_chunks(outputs, rows=None):
    """(rows, their outputs) piece by piece; all rows when left out."""
    rows = torch.arange(len(next(iter(outputs.values())))) if rows is None else torch.as_tensor(rows)
    for chunk in row_chunks(rows, max(values.shape[-1] for values in outputs.values() if values.ndim > 1)):
        yield chunk, {name: values[chunk] for name, values in outputs.items()}


def joined(pieces, count):
    """Dicts of tensors, one behind the other, of `count` rows in all.

    They are copied as they come: small tensors that are kept between large ones that go leave holes in the memory that
    the next large ones don't fit into.
    """
    found, start = {}, 0
    for piece in pieces:
        for name, values in piece.items():
            if name not in found:
                found[name] = values.new_empty(count, *values.shape[1:])
            found[name][start : start + len(values)] = values
        start += len(values)
    return found

"""Answers as strings: what people said, the score of what some of them said, and the type of question."""

import numbers
from decimal import Decimal

from .normal_form import normal_form


def answer_text(value):
    """What somebody answered, as text: a number as it is written, None for a gap (None, NaN, NA or blank text).

    Raises:
        ValueError: it is something else, such as a list or a dict.
    """
    if isinstance(value, str):
        return value if normal_form(value) else None
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # pandas, which the metric doesn't need
        return None
    value = value.item() if getattr(value, "ndim", None) == 0 else value  # NumPy, PyTorch
    if not isinstance(value, (bool, numbers.Number, Decimal)):
        raise ValueError(f"an answer must be text or a number, found {type(value).__name__}")
    if value != value:
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def as_list(answers):
    """The answers of several people, or of one, as a list of texts; who said nothing is left out.

    Raises:
        ValueError: see `answer_text`.
    """
    several = isinstance(answers, (list, tuple, set)) or getattr(answers, "ndim", 0)
    texts = map(answer_text, answers if several else [answers])
    return [text for text in texts if text is not None]


def question_type_of(answer):
    """0 if the normalised answer is yes or no, else 1: the index in `QUESTION_TYPES`."""
    return 0 if answer in ("no", "yes") else 1


def score_of_matches(matches, people, metric="vqa"):
    """How right an answer is that some of the people gave, in [0, 1]; with one person it is 1 or 0.

    "exact" is min(matches / 3, 1), with fewer than three people the share that agrees. "vqa" is the official score of
    the VQA evaluation (Antol et al. 2015): each person is left out in turn, and the mean taken of
    min(matches among the others / 3, 1). Of ten people 1, 2, 3 and 4 matches give 0.3, 0.6, 0.9 and 1, where "exact"
    gives 1/3, 2/3, 1 and 1. Its three are two, or one, where there are no more others: the share that agrees, again.
    """
    if metric == "exact" or people == 1:
        return min(matches / min(3, people), 1.0)
    needed = min(3, people - 1)
    left_out_agrees = min(max(matches - 1, 0) / needed, 1.0)
    return (matches * left_out_agrees + (people - matches) * min(matches / needed, 1.0)) / people

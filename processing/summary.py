"""What a run must know of all training rows before it starts."""

import logging
from collections import Counter
from dataclasses import dataclass, field

from .answers import Writings, as_list, consensus, normalise_answer

logger = logging.getLogger(__name__)

MOST_ANSWERS = 1_000_000  # different ones that are counted; beyond, the rarest are forgotten
MOST_QUESTIONS = 100_000  # different ones that are kept, for a tokenizer


@dataclass
class TrainingSummary:
    """
    Args:
        rows: how many there are.
        images: how many different images, None where it isn't known.
        answers: how often each normalised answer occurs.
        questions: the first `MOST_QUESTIONS` different questions.
        writings: normalised answer -> how most people wrote it.
    """

    rows: int
    images: int | None
    answers: Counter
    questions: list
    writings: dict = field(default_factory=dict)

    def counts_of(self, vocabulary):
        """How often each answer of a vocabulary occurs, however written."""
        return [self.answers[normalise_answer(answer)] for answer in vocabulary]


def summarise(rows, images=None):
    """One pass over (question, answer) pairs, in constant memory; an answer may be None."""
    answers, questions, writings, count = Counter(), {}, Writings(), 0
    for question, answer in rows:
        count += 1
        if answer is not None:
            form = consensus(answer)
            answers[form] += 1
            writings.add(form, as_list(answer))
        if len(answers) > MOST_ANSWERS:
            answers = Counter(dict(answers.most_common(MOST_ANSWERS // 2)))
            logger.warning("more than %d different answers: the rarest are forgotten", MOST_ANSWERS)
        if len(questions) < MOST_QUESTIONS:
            questions[question] = None
    return TrainingSummary(count, images, answers, list(questions), writings.commonest())


def summary_of(train):
    """The [`TrainingSummary`] of a training part: a Dataset, or a stream that has made its own."""
    if hasattr(train, "summary"):
        return train.summary
    answers = train["answer"][:] if "answer" in train.column_names else [None] * len(train)
    return summarise(zip(train["question"][:], answers), len(set(train["image_key"][:])))

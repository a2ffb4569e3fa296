"""What a run must know of all training rows before it starts."""

import logging
from collections import Counter
from dataclasses import dataclass, field

from .answers import AnswerRules, Writings, as_list, question_type_of
from .processing_dualvqa import BINARY_ANSWERS
from .vqa_accuracy.rules import ENGLISH

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
        writings: normalised answer, also one that only few gave -> how most people wrote it.
        votes: how many people gave each normalised answer, whatever most said: of yes/no questions, of open-ended ones.
        rules: how answers are compared.
    """

    rows: int
    images: int | None
    answers: Counter
    questions: list
    writings: dict = field(default_factory=dict)
    votes: tuple = field(default_factory=lambda: (Counter(), Counter()))
    rules: AnswerRules = ENGLISH

    def counts(self, target="majority", with_binary=False):
        """How often each normalised answer occurs: as what most people said, or with the target "soft" as anybody's.

        Args:
            with_binary: count yes/no questions too, whose answers a single head learns among the others.
        """
        if target == "majority":
            return self.answers
        return self.votes[0] + self.votes[1] if with_binary else self.votes[1]

    def written(self, form):
        """A normalised answer as most people wrote it, yes and no as the model says them."""
        return {**self.writings, **dict(zip(BINARY_ANSWERS, self.rules.shown))}.get(form, form)

    def counts_of(self, vocabulary, target="majority"):
        """How often each answer of a vocabulary occurs, however written."""
        forms = list(map(self.rules.form, vocabulary))
        counts = self.counts(target, with_binary=not set(forms).isdisjoint(BINARY_ANSWERS))
        return [counts[form] for form in forms]


def summarise(rows, images=None, rules=ENGLISH):
    """One pass over (question, answer) pairs, in constant memory; an answer may be None."""
    answers, votes, questions, writings, count = Counter(), [Counter(), Counter()], {}, Writings(rules), 0
    for question, answer in rows:
        count += 1
        if answer is not None:
            people = as_list(answer)
            said = Counter(map(rules.form, people))
            form = said.most_common(1)[0][0] if said else rules.consensus(answer)  # refuses that nobody said anything
            answers[form] += 1
            votes[question_type_of(form)].update(said)
            writings.add_all(people)
        if len(answers) > MOST_ANSWERS:
            answers = limited(answers)
            logger.warning("more than %d different answers: the rarest are forgotten", MOST_ANSWERS)
        votes = [limited(found) if len(found) > MOST_ANSWERS else found for found in votes]
        if len(questions) < MOST_QUESTIONS:
            questions[question] = None
    return TrainingSummary(count, images, answers, list(questions), writings.commonest(), tuple(votes), rules)


def limited(counts):
    return Counter(dict(counts.most_common(MOST_ANSWERS // 2)))


def summary_of(train, rules=ENGLISH):
    """The [`TrainingSummary`] of a training part: a Dataset, or a stream that has made its own.

    Args:
        rules: how its answers are compared; a stream knows that itself.
    """
    if hasattr(train, "summary"):
        return train.summary
    answers = train["answer"][:] if "answer" in train.column_names else [None] * len(train)
    return summarise(zip(train["question"][:], answers), len(set(train["image_key"][:])), rules)

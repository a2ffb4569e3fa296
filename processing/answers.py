"""The vocabulary of the open-ended head."""

import logging
import re
from collections import Counter

from .processing_dualvqa import BINARY_ANSWERS
from .vqa_accuracy.answer_strings import as_list, question_type_of
from .vqa_accuracy.normal_form import NUMBER_WORDS
from .vqa_accuracy.rules import ENGLISH, AnswerRules

__all__ = [
    "AnswerRules",
    "AnswerVocabulary",
    "answer_score",
    "as_list",
    "consensus",
    "normalise_answer",
    "question_type_of",
]

logger = logging.getLogger(__name__)

# Those of English answers and exact match; see `AnswerRules`.
normalise_answer, consensus, answer_score = ENGLISH.form, ENGLISH.consensus, ENGLISH.score

IGNORE_INDEX = -100
EARLIER_PUNCTUATION = re.compile(r"['’‘`´;/\[\]\"{}()=+\\_><@,?!:*|~^“”]")  # never in what earlier versions saved
MOST_WRITINGS = 1_000_000  # different ones that are counted; beyond, the rarest are forgotten


class Writings:
    """How people wrote their answers, and how often, in bounded memory.

    Args:
        rules: how answers are compared, [`AnswerRules`].
    """

    def __init__(self, rules=ENGLISH):
        self.counts, self.rules = Counter(), rules

    def add(self, form, texts):
        """Counts the texts of this normal form among those that people gave to a question."""
        self.add_all(text for text in texts if self.rules.form(text) == form)

    def add_all(self, texts):
        """Counts all texts that people gave to a question."""
        self.counts.update([" ".join(text.split()) for text in texts])
        if len(self.counts) > MOST_WRITINGS:
            self.counts = Counter(dict(self.counts.most_common(MOST_WRITINGS // 2)))

    def commonest(self):
        """Normal form -> its commonest writing, the alphabetically first of those that are level.

        Yes and no are always written as their own head writes them.
        """
        found = {}
        for text, count in self.counts.items():
            form = self.rules.form(text)
            found[form] = min(found.get(form, (0, "")), (-count, text))
        own = dict(zip(BINARY_ANSWERS, self.rules.shown))
        return {form: own.get(form, text) for form, (_, text) in found.items()}


class AnswerVocabulary:
    """The answers of the open-ended head, most frequent first. It has no class for unknown answers.

    They are kept as they are shown, and found by their normal form.

    Args:
        answers: different answers, as they are shown.
        rules: how answers are compared, [`AnswerRules`].

    Raises:
        ValueError: two of them have one normal form, so that one could never be right.
    """

    def __init__(self, answers, rules=ENGLISH):
        self.answers, self.rules = list(answers), rules
        self.index = {}
        for index, answer in enumerate(self.answers):
            first = self.index.setdefault(rules.form(answer), index)
            if first != index:
                refuse_twins(self.answers[first], answer, rules)

    @classmethod
    def of(cls, processor, memory=False):
        """A processor's, by its own rules; with `memory` also what only the model's memory knows."""
        return cls(processor.all_answers if memory else processor.answers, AnswerRules.of(processor))

    @classmethod
    def from_training_answers(
        cls, answers, min_frequency=1, max_size=None, with_binary=False, writings=None, rules=ENGLISH
    ):
        """Collects the open-ended answers of the training part.

        Args:
            answers: one answer per training question, as written; yes and no are left to their own head.
            with_binary: yes and no are answers among the others, for a model with one head for all questions.
            min_frequency: how often an answer must occur, whichever way it is written.
            max_size: how many answers are kept at most, the most frequent ones; ties in alphabetical order.
            writings: normal form -> how it is shown; the commonest among `answers` when left out.

        Raises:
            ValueError: nothing is left.
        """
        counts, found = Counter(), Writings(rules)
        for answer in answers:
            form = rules.form(answer)
            counts[form] += 1
            if writings is None:
                found.add(form, [answer])
        if not with_binary:
            counts = Counter({form: count for form, count in counts.items() if question_type_of(form) == 1})
        kept = sorted(
            (form for form, count in counts.items() if count >= min_frequency), key=lambda form: (-counts[form], form)
        )[:max_size]
        if not counts:
            raise ValueError(
                "expected open-ended training answers, found yes and no alone: train a model without that head, "
                "--config heads=[binary], in Python heads=['binary']"
            )
        if not kept:
            raise ValueError(
                f"expected open-ended training answers that occur at least {min_frequency} times, found none among "
                f"{len(counts)} different ones; lower the threshold"
            )
        writings = found.commonest() if writings is None else writings
        return cls([writings.get(form, form) for form in kept], rules)

    def __len__(self):
        return len(self.answers)

    def encode(self, answer):
        """Index of an answer, however written, or -100 if it is not in the vocabulary."""
        return self.index.get(self.rules.form(answer), IGNORE_INDEX)

    def labels(self, answers):
        """`<head>_labels` of answers, a list for each head and one for the router; -100 for none."""
        answers = list(map(self.rules.form, answers))
        types = [question_type_of(answer) for answer in answers]
        return {
            "binary_labels": [BINARY_ANSWERS.index(a) if t == 0 else IGNORE_INDEX for a, t in zip(answers, types)],
            # A vocabulary with yes and no is that of a model with one head for all questions.
            "open_ended_labels": [self.encode(answer) for answer in answers],
            "question_type_labels": types,
        }

    def known(self, binary=False):
        """The forms of its answers that the metric compares, with `binary` those of yes and no too."""
        return {*map(self.rules.compared, self.answers), *(BINARY_ANSWERS if binary else ())}

    def coverage(self, answers, binary=False):
        """The most that the accuracy of the open-ended questions among some can be, with the answers that there are.

        Where one person answered each it is the share of these answers that the vocabulary has.

        Args:
            answers: of each question an answer, or the list of those of several people.
            binary: whether yes and no can be said besides, by a head of their own.

        Returns:
            A share in [0, 1], by the metric of the rules; None where there is no open-ended question.
        """
        known, scores = self.known(binary), []
        for people in answers:
            if isinstance(people, str):
                if question_type_of(self.rules.form(people)) == 1:
                    scores.append(float(self.rules.compared(people) in known))
            elif question_type_of(self.rules.consensus(people)) == 1:
                scores.append(self.rules.best_score(known, people))
        return sum(scores) / len(scores) if scores else None


def refuse_twins(first, second, rules):
    """Refuses two answers with one normal form, but for two that earlier versions saved as different ones."""
    both = f"{first!r} and {second!r} are one answer, {rules.form(first)!r} in normal form"
    if first == second or not (is_earlier_form(first) and is_earlier_form(second)):
        raise ValueError(f"the vocabulary has an answer twice: {both}; leave one of them out")
    logger.warning("the vocabulary of an earlier version has an answer twice: %s; only the first can be right", both)


def is_earlier_form(answer):
    """Whether an answer looks as normalisation left it when vocabularies were still normalised."""
    words = set(answer.split())
    changed = EARLIER_PUNCTUATION.search(answer) or words & {"a", "an", "the", *NUMBER_WORDS}
    return answer == answer.lower() and not changed


def difference(answers, others, rules=ENGLISH):
    """What is different about two vocabularies, in words; None where nothing but the writing of answers is."""
    if len(answers) != len(others):
        return f"{len(answers)} answers and {len(others)}"
    for number, (one, other) in enumerate(zip(answers, others)):
        if rules.form(one) != rules.form(other):
            return f"answer {number} is {one!r} and {other!r}"

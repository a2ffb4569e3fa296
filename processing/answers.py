"""Answers as strings: normalisation, the question type they imply, and the vocabulary of the open-ended head."""

import re
import unicodedata
from collections import Counter

from .processing_dualvqa import BINARY_ANSWERS

IGNORE_INDEX = -100

# The rules of the VQA evaluation (Antol et al. 2015, "VQA: Visual Question Answering"), with three
# departures: "none" stays a word (it is an answer of its own in radiology), a minus before a number stays, and
# apostrophes are dropped, so that "don't" and "dont" are one answer without a list of contractions.
NUMBER_WORDS = dict(zip("zero one two three four five six seven eight nine ten".split(), map(str, range(11))))
ARTICLES = {"a", "an", "the"}
APOSTROPHES = re.compile(r"['’‘`´]")
NUMBER_COMMA = re.compile(r"(?<=\d),(?=\d{3}\b)")  # 1,000
LOOSE_PERIOD = re.compile(r"(?<!\d)\.|\.(?!\d)")  # any but the decimal point of 1.5
LOOSE_HYPHEN = re.compile(r"(?<=\S)[-–—]|[-–—](?!\d)")  # any but the minus of -5
PUNCTUATION = re.compile(r"[;/\[\]\"{}()=+\\_><@,?!:*|~^“”]")


def normalise_answer(answer):
    """Brings the spellings of one answer to one form: case, punctuation, articles, number words, white space."""
    text = unicodedata.normalize("NFKC", str(answer)).lower().strip()
    bare = APOSTROPHES.sub("", text)
    for pattern, replacement in ((NUMBER_COMMA, ""), (LOOSE_PERIOD, " "), (LOOSE_HYPHEN, " "), (PUNCTUATION, " ")):
        bare = pattern.sub(replacement, bare)
    words = [NUMBER_WORDS.get(word, word) for word in bare.split()]
    kept = [word for word in words if word not in ARTICLES]
    return " ".join(kept or words) or text  # "A" (one of several choices) and "?" keep what they have


def consensus(answers):
    """The answer that most people gave, normalised; the first of them where several are level."""
    answers = [answers] if isinstance(answers, str) else answers
    return Counter(map(normalise_answer, answers)).most_common(1)[0][0]


def question_type_of(answer):
    """0 if the normalised answer is yes or no, else 1: the index in `QUESTION_TYPES`."""
    return 0 if answer in BINARY_ANSWERS else 1


def answer_score(prediction, references):
    """min(matches / 3, 1) over the answers of several people (Antol et al. 2015); with fewer than three
    people, the share that agrees. With one it is 1 or 0."""
    matches = sum(normalise_answer(reference) == prediction for reference in references)
    return min(matches / min(3, len(references)), 1.0)


class AnswerVocabulary:
    """The answers of the open-ended head, most frequent first. It has no class for unknown answers.

    Args:
        answers: different normalised answers.
    """

    def __init__(self, answers):
        self.answers = list(answers)
        self.index = {answer: index for index, answer in enumerate(self.answers)}

    @classmethod
    def from_training_answers(cls, answers, min_frequency=1, max_size=None, with_binary=False):
        """Collects the open-ended answers of the training part.

        Args:
            answers: one normalised answer per training question; yes and no are left to their own head.
            with_binary: yes and no are answers among the others, for a model with one head for all questions.
            min_frequency: how often an answer must occur.
            max_size: how many answers are kept at most, the most frequent ones; ties in alphabetical order.

        Raises:
            ValueError: nothing is left.
        """
        counts = Counter(answer for answer in answers if with_binary or question_type_of(answer) == 1)
        kept = sorted(
            (answer for answer, count in counts.items() if count >= min_frequency),
            key=lambda answer: (-counts[answer], answer),
        )[:max_size]
        if not kept:
            raise ValueError(
                f"expected open-ended training answers that occur at least {min_frequency} times, found none among "
                f"{len(counts)} different ones; lower the threshold, or train a model with heads=['binary']"
            )
        return cls(kept)

    def __len__(self):
        return len(self.answers)

    def encode(self, answer):
        """Index of a normalised answer, or -100 if it is not in the vocabulary."""
        return self.index.get(answer, IGNORE_INDEX)

    def labels(self, answers):
        """`<head>_labels` of normalised answers, a list for each head and one for the router; -100 for none."""
        types = [question_type_of(answer) for answer in answers]
        return {
            "binary_labels": [BINARY_ANSWERS.index(a) if t == 0 else IGNORE_INDEX for a, t in zip(answers, types)],
            # A vocabulary with yes and no is that of a model with one head for all questions.
            "open_ended_labels": [self.encode(answer) for answer in answers],
            "question_type_labels": types,
        }

    def coverage(self, answers):
        """Share of the open-ended ones among normalised `answers` that the vocabulary has: no accuracy can be higher.

        None where there is no open-ended answer.
        """
        open_ended = [answer for answer in answers if question_type_of(answer) == 1]
        return sum(answer in self.index for answer in open_ended) / len(open_ended) if open_ended else None

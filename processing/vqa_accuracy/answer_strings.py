"""Answers as strings: their normal form, the one that most people gave, and the question type that it implies."""

import re
import unicodedata
from collections import Counter

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


def as_list(answers):
    """The answers of several people, or of one, as a list."""
    return [answers] if isinstance(answers, str) else list(answers)


def consensus(answers):
    """The answer that most people gave, normalised; the first of them where several are level."""
    return Counter(map(normalise_answer, as_list(answers))).most_common(1)[0][0]


def question_type_of(answer):
    """0 if the normalised answer is yes or no, else 1: the index in `QUESTION_TYPES`."""
    return 0 if answer in ("no", "yes") else 1


def answer_score(prediction, references):
    """min(matches / 3, 1) over the answers of several people (Antol et al. 2015); with fewer than three
    people, the share that agrees. With one it is 1 or 0."""
    matches = sum(normalise_answer(reference) == prediction for reference in references)
    return min(matches / min(3, len(references)), 1.0)

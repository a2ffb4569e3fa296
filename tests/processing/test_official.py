"""The official score of the VQA evaluation: by hand, and by brute force from the published rule."""

import random
import re
import string

import pytest

from processing import AnswerMetrics, AnswerRules, AnswerVocabulary, VQAAccuracy
from processing.vqa_accuracy.answer_strings import score_of_matches
from processing.vqa_accuracy.official import official_form

OFFICIAL = AnswerRules(metric="vqa")
DIGITS = {word: str(n) for n, word in enumerate("zero one two three four five six seven eight nine ten".split())}
DIGITS["none"] = "0"
LACKING = {"dont": "don't", "cant": "can't", "isnt": "isn't", "whats": "what's", "youre": "you're", "oclock": "o'clock"}
WORDS = ["a", "an", "the", "dog", "Cat", "two", "2", "none", "dont", "don't", "isnt", "whats", "x-ray", "1,000", "2.5"]
WORDS += [
    "12:30",
    "left/right",
    "N/A",
    "yes",
    "no",
    "youre",
    "dog's",
    "A+",
    "(red)",
    "p.m.",
    "red;",
    "blue,green",
    "10",
]


def by_the_published_rule(text):
    """https://visualqa.org/evaluation.html, letter by letter."""
    text, kept = re.sub(r"[\n\t]", " ", text).strip(), []
    spaced = {sign for sign in string.punctuation if f"{sign} " in text or f" {sign}" in text}
    number = re.search(r"[0-9],[0-9]", text)
    for place, letter in enumerate(text):
        if letter == ".":
            kept.append(letter if text[place + 1 : place + 2].isdigit() else "")
        elif letter in ';/[]"{}()=+\\_-><@`,?!':
            kept.append("" if letter in spaced or number else " ")
        else:
            kept.append(letter)
    words = [DIGITS.get(word, word) for word in "".join(kept).lower().split()]
    return " ".join(LACKING.get(word, word) for word in words if word not in ("a", "an", "the"))


def by_brute_force(prediction, people):
    """Each person is left out in turn."""
    scores = []
    for left_out in range(len(people)):
        others = [by_the_published_rule(text) for place, text in enumerate(people) if place != left_out]
        scores.append(min(1, others.count(by_the_published_rule(prediction)) / 3))
    return sum(scores) / len(scores)


def made_answer(rng):
    return (
        rng.choice(["", " "]) + " ".join(rng.choices(WORDS, k=rng.choice([1, 1, 1, 2, 3]))) + rng.choice(["", ".", "?"])
    )


def test_the_score_is_that_of_the_published_rule_on_300_cases():
    rng, seen = random.Random(0), set()
    for case in range(300):
        given = [made_answer(rng) for _ in range(rng.choice([1, 2, 3, 5]))]
        people = [rng.choice(given) for _ in range(rng.choice([10, 10, 10, 4, 5, 7, 12]))]
        prediction = rng.choice([*given, made_answer(rng)])
        expected = by_brute_force(prediction, people)
        assert OFFICIAL.score(prediction, people) == pytest.approx(expected), (case, prediction, people)
        seen.add(round(expected, 3))
    assert {0, 0.3, 0.6, 0.9, 1} <= seen


@pytest.mark.parametrize(
    "prediction, others, matches, score",
    [
        ("cat", "dog", 0, 0.0),
        ("cat", "dog", 1, 0.3),  # one person left out finds none, nine find one of three
        ("A cat.", "dog", 2, 0.6),  # two find one of three, eight two: (2 * 1 + 8 * 2) / 30
        ("CAT", "dog", 3, 0.9),  # (3 * 2 + 7 * 3) / 30
        ("cat!", "dog", 4, 1.0),
        ("the cat", "dog", 10, 1.0),
    ],
)
def test_of_ten_people(prediction, others, matches, score):
    assert OFFICIAL.score(prediction, ["cat"] * matches + [others] * (10 - matches)) == pytest.approx(score)


def test_with_fewer_people_it_is_the_share_that_agrees():
    """The published rule has ten; of three at most two others could agree, of one nobody."""
    assert [score_of_matches(matches, 3) for matches in range(4)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert [score_of_matches(matches, 2) for matches in range(3)] == [0, 0.5, 1]
    assert [score_of_matches(matches, 1) for matches in range(2)] == [0, 1]
    assert OFFICIAL.score("none", ["0"]) == 1 and OFFICIAL.score(None, ["0"] * 10) == 0


@pytest.mark.parametrize(
    "text, form",
    [
        ("The dogs.", "dogs"),
        ("two dogs", "2 dogs"),
        ("1,000", "1000"),
        ("red, white and blue", "red white and blue"),
        ("left/right", "left right"),
        ("dont know", "don't know"),
        ("couldnt've", "couldn't've"),
        ("it's 12:30", "it's 12:30"),
        ("2.5 p.m.", "2.5 pm"),
        ("None", "0"),
    ],
)
def test_forms_by_hand(text, form):
    assert official_form(text) == form


def test_the_metric_gives_it_in_all_and_by_type():
    people = [["yes"] * 3 + ["no"] * 7, ["cat"] * 2 + ["dog"] * 8, ["x-ray"] * 10]
    figures = VQAAccuracy(keep_in_memory=True).compute(
        predictions=["yes", "cat", "x ray"], references=people, metric="vqa"
    )
    assert figures["accuracy"] == pytest.approx((0.9 + 0.6 + 1) / 3)
    assert figures["binary_accuracy"] == pytest.approx(0.9)
    assert figures["open_ended_accuracy"] == pytest.approx(0.8)
    as_before = VQAAccuracy(keep_in_memory=True).compute(predictions=["yes", "cat", "x ray"], references=people)
    assert as_before["accuracy"] == pytest.approx((1 + 2 / 3 + 1) / 3)


def test_own_words_for_yes_and_no_are_compared_as_such():
    rules = AnswerRules(["Ja", "jawohl"], ["nein"], "de", "vqa")
    assert rules.score("Ja", ["jawohl", *["nein"] * 9]) == pytest.approx(0.3)
    assert rules.score("yes", ["ja"]) == 1


@pytest.mark.parametrize("rules", [AnswerRules(), OFFICIAL], ids=["exact", "vqa"])
def test_no_accuracy_is_above_the_coverage_that_stands_beside_it(rules, processor):
    """Ten people each; what most said the vocabulary has of every other question."""
    vocabulary = AnswerVocabulary(["red", "green", "blue"], rules)
    people = [["purple"] * 8 + ["red"] * 2, ["purple"] * 10, ["green"] * 9 + ["blue"], ["yes"] * 10]
    found = vocabulary.coverage(people)
    assert found == pytest.approx((rules.score("red", people[0]) + 0 + 1) / 3)
    assert vocabulary.coverage([["purple"] * 9 + ["yes"]], binary=True) == rules.score("yes", ["yes", *["no"] * 9])
    assert vocabulary.coverage([["purple"] * 9 + ["yes"]]) == 0 and vocabulary.coverage(people[3:]) is None
    processor.answer_rules = rules.saved()
    assert AnswerMetrics(processor, people).rules == rules

import logging

import pandas
import pytest

from processing import AnswerVocabulary, consensus, difference
from processing.answers import Writings, as_list


def test_the_answer_of_most_people_counts():
    assert consensus("The Liver") == "liver"
    assert consensus(["cat", "A dog.", "dog"]) == "dog"
    assert consensus(["cat", "dog"]) == "cat"


@pytest.mark.parametrize("gap", [None, "", " ", "\u200b", float("nan"), pandas.NA, pandas.NaT])
def test_who_said_nothing_has_no_vote(gap):
    assert consensus([gap, gap, "red"]) == "red"
    assert consensus([gap, gap, gap, "Yes", "yes", "no"]) == "yes"
    assert as_list([gap, "red", 2, gap]) == ["red", "2"]
    for nothing in (gap, [gap, gap], []):
        with pytest.raises(ValueError, match="nobody said anything"):
            consensus(nothing)


def test_words_that_look_like_gaps_are_answers():
    assert consensus(["None", "none", "red"]) == "none"
    assert consensus("NaN") == "nan"


def test_vocabulary_shows_the_commonest_original_writing():
    answers = ["hepatitis a", "Hepatitis A", "Hepatitis  A", "CT scan", "ct scan", "The liver", "x-ray"]
    vocabulary = AnswerVocabulary.from_training_answers(answers)
    assert vocabulary.answers == ["Hepatitis A", "CT scan", "The liver", "x-ray"]
    assert [vocabulary.encode(answer) for answer in ("HEPATITIS A", "ct scan", "liver", "X ray")] == [0, 1, 2, 3]
    assert vocabulary.labels(["Liver.", "YES"])["open_ended_labels"] == [2, -100]


def test_yes_and_no_are_written_as_their_head_writes_them():
    vocabulary = AnswerVocabulary.from_training_answers(["Yes", "YES.", "No", "red"], with_binary=True)
    assert set(vocabulary.answers) == {"yes", "no", "red"}


def test_the_commonest_writing_does_not_hang_on_the_order():
    for texts in (["b A", "B a", "B A"], ["B A", "b A", "B a"]):
        writings = Writings()
        writings.add("b a", texts)
        assert writings.commonest() == {"b a": "B A"}


def test_writings_are_counted_in_bounded_memory(monkeypatch):
    monkeypatch.setattr("processing.answers.MOST_WRITINGS", 10)
    writings = Writings()
    for number in range(100):
        writings.add("red", ["Red"])
        writings.add(f"w{number}", [f"W{number}"])
    assert len(writings.counts) <= 10 and writings.commonest()["red"] == "Red"


@pytest.mark.parametrize("twins", [["CT scan", "ct scan"], ["two", "2"], ["red", "red"], ["a dog", "dog"]])
def test_a_vocabulary_with_one_answer_twice_is_refused(twins):
    with pytest.raises(ValueError, match=f"twice: '{twins[0]}' and '{twins[1]}' are one answer"):
        AnswerVocabulary(["lung", *twins])


def test_the_vocabulary_of_an_earlier_version_is_read(caplog):
    earlier = ["hepatitis", "p", "5 10", "left right", "2", "2.0"]
    with caplog.at_level(logging.WARNING):
        vocabulary = AnswerVocabulary(earlier)
    assert [vocabulary.encode(answer) for answer in earlier] == [0, 1, 2, 3, 4, 4]
    assert "'2' and '2.0' are one answer" in caplog.text


def test_vocabularies_differ_in_answers_not_in_their_writing():
    assert difference(["CT scan", "left kidney"], ["ct scan", "The left kidney"]) is None
    assert difference(["CT scan", "AP"], ["ct scan", "P.A."]) == "answer 1 is 'AP' and 'P.A.'"
    assert difference(["red"], ["red", "blue"]) == "1 answers and 2"


def test_vocabulary_has_open_ended_training_answers_by_frequency():
    vocabulary = AnswerVocabulary.from_training_answers(["yes", "liver", "lung", "lung", "no", "brain"])
    assert vocabulary.answers == ["lung", "brain", "liver"]
    assert vocabulary.encode("liver") == 2
    assert vocabulary.encode("kidney") == -100
    assert vocabulary.encode("yes") == -100


def test_vocabulary_threshold_and_size():
    answers = ["a1"] * 3 + ["b1"] * 2 + ["c1"]
    assert AnswerVocabulary.from_training_answers(answers, min_frequency=2).answers == ["a1", "b1"]
    assert AnswerVocabulary.from_training_answers(answers, max_size=1).answers == ["a1"]
    with pytest.raises(ValueError, match="at least 4 times, found none among 3"):
        AnswerVocabulary.from_training_answers(answers, min_frequency=4)


def test_coverage_counts_open_ended_answers_only():
    vocabulary = AnswerVocabulary(["liver", "lung"])
    assert vocabulary.coverage(["yes", "liver", "kidney", "lung", "brain"]) == 0.5
    assert vocabulary.coverage(["yes", "no"]) is None

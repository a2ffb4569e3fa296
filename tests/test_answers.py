import pytest

from processing import AnswerVocabulary, consensus, normalise_answer

TABLE = {
    "Yes": "yes",
    " No. ": "no",
    "NO!": "no",
    "The left lung": "left lung",
    "a cat and an apple": "cat and apple",
    "A": "a",
    "?": "?",
    "two": "2",
    "Twenty": "twenty",
    "ten": "10",
    "zero": "0",
    "None": "none",
    "x-ray": "x ray",
    "X ray": "x ray",
    "T2-weighted": "t2 weighted",
    "1,000": "1000",
    "red, green": "red green",
    "1.5 cm": "1.5 cm",
    "approx. 5 cm.": "approx 5 cm",
    "-5": "-5",
    "5-10": "5 10",
    "don't": "dont",
    "dont": "dont",
    "the patient’s left": "patients left",
    "left/right": "left right",
    "50%": "50%",
    "CT (contrast)": "ct contrast",
    "  many\tspaces \n": "many spaces",
    "ﬁbrosis": "fibrosis",
    "ÉCHO": "écho",
}


@pytest.mark.parametrize("answer, expected", TABLE.items())
def test_normalisation(answer, expected):
    assert normalise_answer(answer) == expected


@pytest.mark.parametrize("answer", TABLE.values())
def test_normalising_twice_changes_nothing(answer):
    assert normalise_answer(answer) == answer


def test_the_answer_of_most_people_counts():
    assert consensus("The Liver") == "liver"
    assert consensus(["cat", "A dog.", "dog"]) == "dog"
    assert consensus(["cat", "dog"]) == "cat"


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

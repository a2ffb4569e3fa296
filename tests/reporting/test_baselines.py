import numpy as np
import pytest
from datasets import Dataset
from sklearn.feature_extraction.text import TfidfVectorizer

from dualvqa.reporting.baselines import QuestionCopier, baseline_answers


def test_the_most_similar_question_is_copied():
    copier = QuestionCopier(
        ["what color is the liver?", "is the heart enlarged?", "where is the mass?"], ["brown", "no", "left lung"]
    )
    assert copier(["which color has the liver", "Is this heart ENLARGED", "where is it?"]) == [
        "brown",
        "no",
        "left lung",
    ]


def test_equally_similar_questions_vote_and_unknown_words_get_the_most_frequent_answer():
    questions = ["is it red?", "is it red?", "red is it?", "what is it?", "what color?"]
    copier = QuestionCopier(questions, ["no", "yes", "yes", "dog", "no"])
    assert copier(["is it red?"]) == ["yes"]
    assert copier(["xyz"]) == ["no"]  # 2 no, 2 yes, 1 dog: the first of those that are level


def test_blocks_of_similarities_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    words = np.array(["is", "it", "a", "red", "dog", "cat", "left", "right", "of", "what"])
    train = [" ".join(words[rng.integers(0, 10, 5)]) for _ in range(60)]
    asked = [" ".join(words[rng.integers(0, 10, 5)]) for _ in range(40)]
    answers = [str(number) for number in range(60)]
    found = QuestionCopier(train, answers)(asked)
    monkeypatch.setattr("dualvqa.reporting.baselines.BLOCK", 100)
    assert QuestionCopier(train, answers)(asked) == found
    # by hand: the similarity of what was copied is the largest
    vectors = TfidfVectorizer(token_pattern=r"\w+").fit(sorted(set(train)))
    similar = (vectors.transform(asked) @ vectors.transform(train).T).toarray()
    assert [row[int(copy)] for row, copy in zip(similar, found)] == pytest.approx(similar.max(axis=1))


def test_baselines_know_what_they_may():
    train = Dataset.from_dict(
        {
            "image_key": ["a", "a", "b", "b"],
            "question": ["is it red?", "what color?", "is it red?", "is it red?"],
            "answer": [["Yes"], ["The blue", "The blue", "red"], ["no"], ["no"]],
        }
    )
    results = [
        {"image": "a", "question": "is it red?", "type": "binary"},
        {"image": "new", "question": "what color?", "type": "open_ended"},
    ]
    assert baseline_answers(train, results) == {
        "majority": ["no", "The blue"],  # as people wrote it, for metrics that compare what is written
        "copied": ["no", "The blue"],
        "copied_same_image": ["yes", None],
    }
    assert "copied_same_image" not in baseline_answers(train, results[1:])

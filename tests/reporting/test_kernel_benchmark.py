"""The page about kernels: what it calls held out is held out, and its regression is what its text says."""

import sys

import numpy as np
import pytest
from helpers import ROOT

FOLDS, IMAGES, EACH = 3, 30, 4


@pytest.fixture(scope="module")
def regression():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import kernel_regression

    return kernel_regression


@pytest.fixture
def questions(regression):
    """Four questions about each image, two of yes and no; image and question are of two kinds each: is it the same?"""
    draws = np.random.default_rng(0)
    seen, asked = draws.choice([-1, 1], IMAGES).repeat(EACH), draws.choice([-1, 1], IMAGES * EACH)
    image = seen[:, None] + 0.3 * draws.normal(size=(IMAGES, 6)).repeat(EACH, axis=0)
    text = asked[:, None] + 0.3 * draws.normal(size=(len(asked), 5))
    yes = (seen == asked).astype(int)
    keys = [f"image {n // EACH}" for n in range(len(image))]
    answers = [("no", "yes")[right] if n % 2 else ("left", "right")[right] for n, right in enumerate(yes)]
    size = len(image) // FOLDS
    parts = [
        {"answer": answers[start : start + size], "image_key": keys[start : start + size]}
        for start in range(0, len(image), size)
    ]

    class Part(dict):
        def __len__(self):
            return len(self["answer"])

    return regression.Questions(list(map(Part, parts)), dict.fromkeys(regression.LAYERS, text), image)


def test_a_kernel_answers_what_neither_image_nor_question_alone_tells(regression, questions):
    def right(weight):
        found = 0
        for fold in range(FOLDS):
            asked, train = (np.flatnonzero(rows) for rows in (questions.fold == fold, questions.fold != fold))
            found += questions.right(questions.kernels(train)[0, weight], train, asked, 0)
        return found / (questions.types == 0).sum()

    alone, both = map(right, regression.WEIGHTS)
    assert both > 0.9 > 0.7 > alone


def test_the_answers_of_a_fold_do_not_depend_on_what_is_right_there(questions):
    scores, names = questions.said(0)
    here = questions.fold == 0
    questions.answers = np.where(here & (questions.types == 0), "yes", questions.answers)
    again, others = questions.said(0)
    assert list(names) == list(others)
    for name, parts in scores.items():
        assert all(np.array_equal(one, other) for one, other in zip(parts, again[name])), name


def test_without_a_penalty_training_questions_are_answered_as_they_were(regression, questions, monkeypatch):
    monkeypatch.setattr(regression, "PENALTY", 1e-9)
    train = np.flatnonzero(questions.fold != 0)
    own = train[questions.types[train] == 0]
    scores, names = questions.answered(questions.kernels(train)[0, 3], train, own, 0)
    assert np.allclose(scores, questions.answers[own][:, None] == names, atol=1e-4)


def test_another_cut_keeps_the_questions_of_an_image_in_one_fold(questions):
    other = questions.cut(7)
    assert (other.fold != questions.fold).any()
    for image in set(questions.images):
        assert len(set(other.fold[questions.images == image])) == 1

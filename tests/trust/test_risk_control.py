"""Conformal risk control: the expected share of an image's questions that get a wrong answer."""

import numpy as np
import pytest

from dualvqa.trust.abstention import NoThresholdError
from dualvqa.trust.risk_control import control_risk


def drawn(rng, images):
    """Questions about images, between one and eight about each; about some images nearly all answers are wrong."""
    sizes = rng.integers(1, 9, images)
    keys = np.repeat(np.arange(images), sizes)
    scores = rng.uniform(size=len(keys))
    hard = (rng.uniform(size=images) < 0.2)[keys]
    correct = rng.uniform(size=len(keys)) < np.where(hard, 0.1, scores)
    return scores, correct.astype(float), keys


def test_the_expected_share_of_wrongly_answered_questions_is_kept_over_many_draws():
    """Threshold and new image are drawn anew each time; the promise is nearly used up, so it isn't too careful."""
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(150):
        threshold = control_risk(*drawn(rng, 40), max_risk=0.2)["threshold"]
        scores, correct, keys = drawn(rng, 20)
        wrong = (scores >= threshold) & (correct < 1)
        losses.append((np.bincount(keys, wrong) / np.bincount(keys)).mean())
    assert 0.17 < np.mean(losses) < 0.2 + 2 * np.std(losses) / 12


def test_a_threshold_is_the_lowest_that_the_theorem_allows():
    rng = np.random.default_rng(1)
    scores, correct, keys = drawn(rng, 60)
    found = control_risk(scores, correct, keys, 0.15)

    def bound(threshold):  # by images, one after another
        shares = [np.mean((scores[keys == key] >= threshold) & (correct[keys == key] < 1)) for key in range(60)]
        return (sum(shares) + 1) / 61

    lower = scores[scores < found["threshold"]].max()
    assert bound(found["threshold"]) == pytest.approx(found["bound"]) and found["bound"] <= 0.15 < bound(lower)
    assert found["coverage"] == (scores >= found["threshold"]).mean() and found["risk_of"] == "questions"
    assert (found["rows"], found["images"], found["max_risk"]) == (len(scores), 60, 0.15)


def test_equal_scores_are_answered_together():
    correct = np.repeat([1.0, 0.0, 1.0], [50, 10, 40])
    scores = np.repeat([0.9, 0.5], [50, 50])
    assert control_risk(scores, correct, np.arange(100), 0.08)["threshold"] == 0.9
    assert control_risk(scores, correct, np.arange(100), 0.12)["threshold"] == 0.5


def test_too_few_images_are_told_with_the_number_it_takes():
    with pytest.raises(NoThresholdError, match="found 18 questions about 9 images; it takes at least 19"):
        control_risk(np.ones(18), np.ones(18), np.arange(18) // 2, 0.05)
    with pytest.raises(NoThresholdError, match="the most confident answers are wrong"):
        control_risk(np.ones(30), np.zeros(30), np.arange(30), 0.05)
    with pytest.raises(NoThresholdError, match="found 0 questions about 0 images"):
        control_risk([], [], [], 0.05)

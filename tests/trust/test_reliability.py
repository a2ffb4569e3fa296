import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from dualvqa.trust.reliability import (
    area_under_risk_coverage,
    brier_score,
    expected_calibration_error,
    reliability_bins,
    risk_coverage,
)


def test_bins_hold_their_upper_end_and_the_error_is_their_weighted_distance():
    confidences, correct = [0.0, 0.2, 0.21, 0.6, 1.0], [0, 1, 1, 0.5, 1]
    bins = reliability_bins(confidences, correct, bins=5)
    assert [b["count"] for b in bins] == [2, 1, 1, 1]
    assert bins[0]["confidence"] == pytest.approx(0.1) and bins[0]["accuracy"] == 0.5
    expected = (2 * 0.4 + 0.79 + 0.1 + 0) / 5
    assert expected_calibration_error(confidences, correct, bins=5) == pytest.approx(expected)


def test_a_calibrated_model_has_no_error_and_an_over_confident_one_its_excess():
    rng = np.random.default_rng(0)
    confidences = rng.uniform(0.5, 1, 20000)
    correct = rng.uniform(size=20000) < confidences
    assert expected_calibration_error(confidences, correct) < 0.02
    assert expected_calibration_error(np.full(20000, 0.99), correct) == pytest.approx(0.24, abs=0.01)


def test_brier_of_two_answers_is_twice_that_of_scikit_learn_and_unknown_answers_count():
    rng = np.random.default_rng(1)
    yes, labels = rng.uniform(size=50), rng.integers(0, 2, 50)
    found = brier_score(np.stack([1 - yes, yes], axis=1), labels)
    assert found == pytest.approx(2 * brier_score_loss(labels, yes))
    assert brier_score([[0.5, 0.5], [1, 0]], np.array([-100, 0])) == pytest.approx(0.25)


def test_risk_rises_as_less_sure_answers_are_given():
    thresholds, coverages, risks = risk_coverage([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0])
    assert thresholds.tolist() == [0.9, 0.5, 0.1]
    assert coverages.tolist() == [0.25, 0.75, 1.0]
    assert risks == pytest.approx([0, 1 / 3, 1 / 2])
    assert area_under_risk_coverage([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0]) == pytest.approx(0.5 / 3 + 0.25 / 2)

"""Sets of answers: the promised coverage on new images, and the largest that can be promised."""

import math

import numpy as np
import pytest

from dualvqa.trust.prediction_sets import fit_sets, images_for_coverage, true_scores


def drawn(rng, images, unknown=0.0):
    """Scores of the right answers, alike about one image, with one to six questions about each."""
    keys = np.repeat(np.arange(images), rng.integers(1, 7, images))
    scores = np.clip(rng.beta(2, 2, images)[keys] + rng.normal(0, 0.1, len(keys)), 0.01, 0.99)
    scores[rng.uniform(size=len(keys)) < unknown] = np.nan
    return true_scores(scores > 0.7, scores), keys


def test_a_set_holds_the_right_answer_as_often_as_promised_over_many_draws():
    rng = np.random.default_rng(0)
    for coverage, images, unknown in (("0.9", 30, 0.0), ("0.8", 60, 0.1)):
        held = []
        for _ in range(150):
            level = fit_sets(*drawn(rng, images, unknown), levels=[float(coverage)])["levels"].get(coverage)
            reached, keys = drawn(rng, 20, unknown)
            inside = reached >= (0 if level is None else level)
            inside |= level is None  # where nothing is promised nothing can be broken
            held.append((np.bincount(keys, inside) / np.bincount(keys)).mean())
        assert float(coverage) - 2 * np.std(held) / 12 < np.mean(held) < float(coverage) + 0.04


def test_levels_are_the_highest_scores_whose_misses_the_theorem_allows():
    reached, keys = drawn(np.random.default_rng(2), 80, 0.05)
    found = fit_sets(reached, keys)

    def missed(level):
        return ((np.bincount(keys, reached < level) / np.bincount(keys)).sum() + 1) / 81

    for coverage, level in found["levels"].items():
        assert missed(level) <= 1 - float(coverage) + 1e-6
        assert level == 1.0 or missed(np.nextafter(level, 2)) > 1 - float(coverage)
    assert list(found["levels"].values()) == sorted(found["levels"].values(), reverse=True)
    assert found["largest"] == pytest.approx(1 - missed(-1e9))
    assert float(list(found["levels"])[-1]) <= found["largest"] < float(list(found["levels"])[-1]) + 0.01


def test_answers_that_no_head_knows_limit_what_can_be_promised():
    known = true_scores([True, False, False], [0.9, 0.2, math.nan])
    assert known.tolist() == [math.inf, 0.2, -math.inf]
    reached = np.tile([math.inf, 0.2, 0.4, -math.inf], 50)  # a quarter is unknown
    found = fit_sets(reached, np.arange(200))
    assert found["largest"] == pytest.approx(1 - 51 / 201) and max(map(float, found["levels"])) == 0.74
    assert images_for_coverage(found, 0.74) <= 200 and images_for_coverage(found, 0.749) > 200
    assert images_for_coverage(found, 0.75) is None and images_for_coverage(found, 0.9) is None
    needed = images_for_coverage(found, 0.749)
    more = fit_sets(np.tile([math.inf, 0.2, 0.4, -math.inf], math.ceil(needed / 4)), np.arange(-(-needed // 4) * 4))
    assert more["largest"] >= 0.749


def test_few_images_promise_little_even_of_a_model_that_is_always_right():
    found = fit_sets(np.full(9, math.inf), np.arange(9))
    assert found["largest"] == pytest.approx(0.9) and found["levels"]["0.9"] == 1.0 and "0.91" not in found["levels"]
    assert images_for_coverage(found, 0.95) == 19
    assert fit_sets([], []) == {"rows": 0, "images": 0, "largest": 0.0, "levels": {}}
    assert images_for_coverage(fit_sets([], []), 0.9) is None

"""The promised risk, on answers whose true risk is known."""

import numpy as np
import pytest
from scipy.stats import beta, betabinom, binom

from dualvqa.trust.abstention import (
    NoThresholdError,
    choose_threshold,
    design_effect,
    intraclass_correlation,
    prediction_bound,
    selective,
)


def test_the_bound_holds_whatever_the_risk_is():
    """By brute force over all numbers of old and new errors. At some risk it is nearly reached: it isn't too wide."""
    n, confidence = 40, 0.9
    bounds = np.array([prediction_bound(wrong, n, confidence) for wrong in range(n + 1)])
    beyond = np.arange(n + 1)[None] / n > bounds[:, None] + 1e-12  # (old, new) errors
    misses = []
    for risk in np.linspace(0, 1, 201):
        chances = binom.pmf(np.arange(n + 1), n, risk)
        misses.append((chances[:, None] * chances[None] * beyond).sum())
    assert 0.05 < max(misses) <= 1 - confidence


def test_with_very_many_new_answers_it_would_be_clopper_and_pearsons():
    """A tenth of 300 answers wrong: the bound on the true risk is narrower, for new ones have noise of their own."""
    clopper_pearson = beta.ppf(0.95, 31, 270)
    assert clopper_pearson < prediction_bound(30, 300, 0.95) < 2 * clopper_pearson
    assert betabinom.ppf(0.95, 10**6, 31, 270) / 10**6 == pytest.approx(clopper_pearson, abs=1e-4)


def test_a_design_effect_is_that_of_a_smaller_sample():
    assert prediction_bound(20, 200, 0.95, effect=4) == prediction_bound(5, 50, 0.95) > prediction_bound(20, 200, 0.95)
    assert prediction_bound(3, 3, 0.95) == prediction_bound(0, 0.5, 0.95) == 1.0


def test_errors_that_come_by_image_are_worth_one_each():
    images = np.repeat(np.arange(50), 6)
    together = np.repeat(np.arange(50) % 5 == 0, 6).astype(float)
    assert intraclass_correlation(together, images) == pytest.approx(1)
    assert design_effect(together, images, 1.0) == pytest.approx(6, rel=0.03)
    rng = np.random.default_rng(0)
    apart = (rng.uniform(size=3000) < 0.2).astype(float)
    many = np.repeat(np.arange(500), 6)
    assert intraclass_correlation(apart, many) < 0.03
    assert design_effect(apart, many, intraclass_correlation(apart, many)) < 1.2
    assert design_effect(np.zeros(300), images, 0.5) == pytest.approx(1 + 0.5 * 5)


def simulated(rng, images, questions, bad):
    """Scores that are true, but for a share `bad` of the images, about which nine of ten answers are wrong."""
    keys = np.repeat(np.arange(images), questions)
    scores = rng.beta(5, 0.6, len(keys))
    wrong = rng.uniform(size=len(keys)) > scores
    confused = (rng.uniform(size=images) < bad)[keys]
    wrong[confused] = rng.uniform(size=confused.sum()) < 0.9
    return scores, 1.0 - wrong, keys


def split_by_image(rng, keys):
    chosen = rng.permutation(keys.max() + 1)[: (keys.max() + 1) // 2]
    return np.isin(keys, chosen)


@pytest.mark.slow
@pytest.mark.parametrize("images, questions, bad, seed", [(300, 10, 0.0, 0), (300, 10, 0.02, 1), (800, 3, 0.02, 2)])
def test_the_promise_holds_on_the_other_half_in_95_of_100_splits(images, questions, bad, seed):
    rng = np.random.default_rng(seed)
    scores, correct, keys = simulated(rng, images, questions, bad)
    assert 1 - correct.mean() > 0.1  # without abstention it would be broken
    held = answered = found = 0
    for _ in range(100):
        half = split_by_image(rng, keys)
        try:
            chosen = choose_threshold(scores[half], correct[half], keys[half], max_risk=0.1)
        except NoThresholdError:
            held += 1
            continue
        coverage, risk = selective(scores[~half], correct[~half], chosen["threshold"])
        found, answered, held = found + 1, answered + coverage, held + (risk is None or risk <= 0.1)
    assert held >= 95
    assert found >= 60 and answered / found > 0.5  # and it isn't kept by answering nothing


@pytest.mark.slow
def test_without_regard_to_images_it_would_not_hold():
    """The same search on questions that are taken for independent: what the design effect is for."""
    rng = np.random.default_rng(4)
    broken = {"images": 0, "questions": 0}
    for _ in range(10):
        scores, correct, keys = simulated(rng, 100, 20, 0.06)
        for _ in range(10):
            half = split_by_image(rng, keys)
            for kind, groups in (("images", keys[half]), ("questions", np.arange(half.sum()))):
                try:
                    chosen = choose_threshold(scores[half], correct[half], groups, max_risk=0.12)
                except NoThresholdError:
                    continue
                _, risk = selective(scores[~half], correct[~half], chosen["threshold"])
                broken[kind] += risk is not None and risk > 0.12
    assert broken["images"] <= 5 < broken["questions"]


def test_the_lowest_score_that_is_kept_is_the_threshold_and_equal_ones_are_answered_together():
    scores = np.repeat([0.9, 0.5], [300, 100])
    correct = np.repeat([1.0, 0.0], [300, 100])
    found = choose_threshold(scores, correct, np.arange(400), max_risk=0.12)
    assert found["threshold"] == 0.9 and found["coverage"] == 0.75 and found["risk"] == 0
    assert (found["rows"], found["images"], found["max_risk"], found["confidence"]) == (400, 400, 0.12, 0.95)
    assert 0 < found["bound"] <= 0.12
    assert selective(scores, correct, 0.9) == (0.75, 0.0) and selective(scores, correct, 0.95) == (0.0, None)


def test_a_model_that_is_hardly_ever_wrong_needs_no_threshold_though_its_errors_be_the_most_confident():
    images = np.arange(5000) // 10
    correct = np.ones(5000)
    correct[::400] = 0  # about 13 images
    scores = np.linspace(0.5, 1, 5000)
    scores[correct == 0] = 1.1
    found = choose_threshold(scores, correct, images, max_risk=0.01)
    assert found["coverage"] == 1 and found["risk"] == 13 / 5000 < found["bound"] <= 0.01
    effect = design_effect(1 - correct, images, intraclass_correlation(1 - correct, images))
    assert found["bound"] == prediction_bound(13, 5000, 1 - 0.05 * 0.05, effect)
    assert prediction_bound(13, 1250, 0.975) > 0.01  # a search from the most confident answers on would end at once


def test_half_right_counts_as_wrong():
    with pytest.raises(NoThresholdError):
        choose_threshold(np.linspace(0, 1, 400), np.full(400, 0.5), np.arange(400), max_risk=0.3)


def test_the_error_says_what_was_found_where_no_threshold_keeps_the_promise():
    rng = np.random.default_rng(0)
    message = (
        r"at most 20.0% .* 95% confidence: found 400 questions about 40 images, .*% of them answered wrongly; of the "
    )
    with pytest.raises(NoThresholdError, match=message + r"\d+ most confident answers up to .*% may be wrong"):
        choose_threshold(rng.uniform(size=400), rng.uniform(size=400) < 0.6, np.arange(400) // 10, max_risk=0.2)
    for count in (0, 1, 8):
        with pytest.raises(NoThresholdError, match=f"found {count} questions .* too few to show a risk that low"):
            choose_threshold(np.ones(count), np.ones(count), np.arange(count), max_risk=0.05)

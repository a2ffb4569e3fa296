"""How many images a promise takes: the projection against what more images really do."""

import numpy as np
import pytest

from dualvqa.trust.abstention import NoThresholdError, choose_threshold
from dualvqa.trust.sample_size import images_for_threshold


def drawn(rng, images):
    keys = np.repeat(np.arange(images), 5)
    scores = rng.beta(3, 2, len(keys))
    return scores, (rng.uniform(size=len(keys)) < scores).astype(float), keys


def succeeds(sample, max_risk):
    try:
        return bool(choose_threshold(*sample, max_risk))
    except NoThresholdError:
        return False


@pytest.mark.slow
def test_with_the_projected_images_a_threshold_is_found_about_half_the_time():
    """The median projection of samples of 60 images that have none; a third is too few,
    three times as many are plenty."""
    rng = np.random.default_rng(0)
    samples = [sample for sample in (drawn(rng, 60) for _ in range(25)) if not succeeds(sample, 0.2)]
    needed = [images_for_threshold(*sample, 0.2) for sample in samples]
    assert len(samples) > 15
    middle = np.median([number or np.inf for number in needed])
    found = [sum(succeeds(drawn(rng, round(share * middle)), 0.2) for _ in range(8)) for share in (1 / 3, 1, 3)]
    assert found[0] <= 3 and 1 <= found[1] and found[2] >= 5


def test_no_number_is_told_where_too_many_answers_are_wrong_at_every_score():
    rng = np.random.default_rng(0)
    assert images_for_threshold(rng.uniform(size=300), rng.uniform(size=300) < 0.5, np.arange(300), 0.2) is None
    assert images_for_threshold([], [], [], 0.2) is None


def test_more_is_needed_for_a_stricter_promise_and_where_errors_gather():
    rng = np.random.default_rng(3)
    scores, correct, keys = drawn(rng, 100)
    needed = [images_for_threshold(scores, correct, keys, risk) for risk in (0.4, 0.3, 0.25)]
    assert needed == sorted(needed) and needed[0] < needed[-1]
    wrong = np.repeat([0, 0, 0, 1] * 25, 4)
    apart = images_for_threshold(np.linspace(1, 0, 400), 1 - wrong, np.arange(400), 0.3)
    together = images_for_threshold(np.linspace(1, 0, 400), 1 - wrong, np.arange(400) // 4, 0.3)
    assert apart < 4 * together  # questions, four about each image

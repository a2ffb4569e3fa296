import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from dualvqa.reporting.statistics import ImageBootstrap, mcnemar


@pytest.fixture
def sample():
    """200 questions about 30 images, whose figures come as the values of all resamples."""
    rng = np.random.default_rng(0)
    bootstrap = ImageBootstrap(rng.integers(0, 30, 200).astype(str), resamples=20)
    bootstrap.figure = lambda values: values
    return bootstrap, rng


def repeated(bootstrap, resample, *arrays):
    """The questions of a resample, each as often as its image was drawn."""
    times = bootstrap.weights[resample][bootstrap.image_of]
    return [np.repeat(np.asarray(array), times) for array in arrays]


def test_an_image_is_drawn_with_all_its_questions(sample):
    bootstrap, rng = sample
    assert (bootstrap.weights[1:].sum(axis=1) == 30).all() and (bootstrap.weights[0] == 1).all()
    right = rng.uniform(size=200)
    for resample, found in enumerate(bootstrap.mean(right)):
        assert found == pytest.approx(repeated(bootstrap, resample, right)[0].mean())


def test_areas_are_those_of_scikit_learn(sample):
    bootstrap, rng = sample
    labels, scores = rng.integers(0, 2, 200), rng.integers(0, 10, 200) / 10  # many ties
    for resample, found in enumerate(bootstrap.auc(labels, scores)):
        assert found == pytest.approx(roc_auc_score(*repeated(bootstrap, resample, labels, scores)))


def test_macro_f1_is_that_of_scikit_learn_and_its_resamples_are_unbiased(sample):
    bootstrap, rng = sample
    truth = np.array(["a", "a", "a", "b", "b", "c", "rare", "seldom"])[rng.integers(0, 8, 200)]
    truth[5:] = np.where(np.isin(truth[5:], ["rare", "seldom"]), "a", truth[5:])
    guesses = np.where(rng.uniform(size=200) < 0.6, truth, np.array(["a", "b", "never"])[rng.integers(0, 3, 200)])

    def by_hand(resample):
        true, guessed = repeated(bootstrap, resample, truth, guesses)
        return f1_score(true, guessed, labels=sorted(set(true)), average="macro", zero_division=0)

    found = bootstrap.macro_f1(truth, guesses)
    expected = np.array([by_hand(resample) for resample in range(21)])
    assert found[0] == pytest.approx(expected[0])
    np.testing.assert_allclose(found[1:], expected[1:] - expected[1:].mean() + expected[0])


def test_intervals_are_percentiles_and_the_same_every_time():
    right = np.random.default_rng(1).integers(0, 2, 60)
    keys = np.arange(60) // 3
    figure = ImageBootstrap(keys).mean(right)
    raw = ImageBootstrap(keys)
    raw.figure = lambda values: values
    assert figure["value"] == pytest.approx(right.mean())
    assert [figure["low"], figure["high"]] == pytest.approx(np.percentile(raw.mean(right)[1:], [2.5, 97.5]))
    assert figure == ImageBootstrap(keys).mean(right) != ImageBootstrap(keys, seed=1).mean(right)


def test_more_questions_about_the_same_images_that_say_the_same_add_no_certainty():
    right = np.random.default_rng(2).integers(0, 2, 40)
    once = ImageBootstrap(np.arange(40)).mean(right)
    assert ImageBootstrap(np.repeat(np.arange(40), 10)).mean(np.repeat(right, 10)) == pytest.approx(once)
    as_if_independent = ImageBootstrap(np.arange(400)).mean(np.repeat(right, 10))
    assert once["high"] - once["low"] > 2.5 * (as_if_independent["high"] - as_if_independent["low"])


@pytest.mark.slow
def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    held, keys = 0, np.repeat(np.arange(60), 4)
    for _ in range(200):
        chances = np.repeat(rng.beta(2, 1, size=60), 4)  # images differ in how hard they are; the mean is 2/3
        figure = ImageBootstrap(keys, resamples=200).mean(rng.uniform(size=240) < chances)
        held += figure["low"] <= 2 / 3 <= figure["high"]
    assert 0.88 <= held / 200 <= 0.99


def test_without_variation_there_is_no_interval():
    assert ImageBootstrap(["a"] * 5).mean([1, 0, 1, 1, 0]) == {"value": 0.6, "low": None, "high": None}
    assert ImageBootstrap(list("abcde")).mean([1] * 5) == {"value": 1.0, "low": None, "high": None}


def test_resamples_with_one_answer_only_have_no_area():
    figure = ImageBootstrap(["a", "b", "c"]).auc([1, 0, 1], [0.9, 0.5, 0.4])
    assert figure["value"] == 0.5 and 0 <= figure["low"] < figure["high"] <= 1


def test_mcnemar_by_hand():
    first = [1, 1, 1, 0, 0, 0, 0, 0, 0, 0.3]
    second = [1, 1, 0, 1, 1, 1, 1, 1, 2 / 3, 0.5]
    # 1 against 6 of 7: 2 (C(7,0) + C(7,1)) / 2^7; a half isn't right
    assert mcnemar(first, second) == {"only_first": 1, "only_second": 6, "p": pytest.approx(2 * (1 + 7) / 2**7)}
    assert mcnemar([1, 0], [1, 0])["p"] == 1.0

"""Explanations by hiding, against functions that are known to look at one place or one word."""

import itertools

import numpy as np
import pytest
from helpers import COLOR, RED
from PIL import Image

from dualvqa.deployment.onnx_pipeline import load_onnx_pipeline
from dualvqa_light import LightPipeline, explain
from dualvqa_light.explanation import Remembered
from dualvqa_light.hidden_places import FINE, GRID, METHODS, QUICK, hidden, windows
from dualvqa_light.hidden_words import find_words, kept_words, leave_one_out, leave_some_out, without
from dualvqa_light.scoring import ScoredAnswer, find_answer


@pytest.fixture
def picture():
    """Grey, with a red square of 2 x 2 places, and the map's places that it covers."""
    pixels = np.full((64, 96, 3), 128, np.uint8)
    pixels[16:24, 60:72] = (255, 0, 0)
    square = np.zeros((GRID, GRID), bool)
    square[4:6, 10:12] = True
    return Image.fromarray(pixels), square


def redness(images):
    return np.array([(np.asarray(image)[..., 0] > 200).sum() for image in images], float)


# Places


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("fill", ["mean", "blur"])
@pytest.mark.parametrize("name", METHODS)
def test_the_map_points_at_what_the_score_depends_on_whichever_way(picture, name, fill, sign):
    image, square = picture
    found = METHODS[name](lambda images: sign * redness(images), image, fill)
    assert found.shape == (GRID, GRID) and square.flat[found.argmax()]
    assert found[square].min() > 2 * np.abs(found[12:]).max()  # far below it nothing counts


def test_a_score_that_depends_on_nothing_has_a_map_of_zeros(picture):
    asked = []
    for name, method in METHODS.items():
        asked.clear()
        assert not method(lambda images: asked.extend(images) or np.full(len(images), 3.0), picture[0]).any()
        assert len(asked) == {"occlusion": 26, "occlusion_fine": 82, "rise": 151, "combined": 177}[name]  # no finer


@pytest.mark.parametrize("name, levels", [("occlusion", QUICK), ("occlusion_fine", FINE)])
def test_occlusion_is_the_mean_change_over_the_windows_that_hide_a_place(picture, name, levels):
    """One pass computed window by window; of the second, what the first left."""
    image, _ = picture
    red, asked = np.asarray(image)[..., 0] > 200, []
    expected = np.zeros((GRID, GRID))
    where = np.ones((GRID, GRID), bool)
    for (size, step, _), following in zip(levels, [*levels[1:], (0, 0, 1)]):
        total, count = np.zeros((2, GRID, GRID))
        for top, left in itertools.product(range(step - size, GRID, step), repeat=2):
            rows, columns = slice(max(top, 0), top + size), slice(max(left, 0), left + size)
            if where[rows, columns].mean() >= 0.5:
                lost = red[4 * max(top, 0) : 4 * (top + size), 6 * max(left, 0) : 6 * (left + size)].sum()
                total[rows, columns] += lost
                count[rows, columns] += 1
        expected += total / np.maximum(count, 1)
        where = (expected >= np.quantile(expected, 1 - following[2])) & (expected > 0)
    found = METHODS[name](lambda images: asked.extend(images) or redness(images), image)
    np.testing.assert_allclose(found, expected)
    assert len(asked) < (55 if name == "occlusion" else 175)  # what it costs


def test_windows_look_no_finer_than_where_they_are_sent():
    everywhere = windows(4, 2, np.ones((GRID, GRID), bool))
    assert len(everywhere) == 81 and everywhere.any(axis=0).all() and everywhere.sum(axis=(1, 2)).max() == 16
    corner = np.zeros((GRID, GRID), bool)
    corner[:4, :4] = True
    assert windows(2, 1, corner).any(axis=0)[6:, 6:].sum() == 0


def test_what_is_hidden_has_the_mean_colour_and_the_rest_stays(picture):
    image, _ = picture
    mask = np.zeros((1, 4, 4))
    mask[0, 0, 0] = 1
    (found,) = hidden(image, mask, "mean")
    before, after = np.asarray(image), np.asarray(found)
    assert (after[:16, :24] == np.rint(before.mean(axis=(0, 1)))).all()
    assert (after[16:] == before[16:]).all() and (after[:, 24:] == before[:, 24:]).all()
    with pytest.raises(ValueError, match="fill must be one of mean, blur; found 'black'"):
        hidden(image, mask, "black")
    with pytest.raises(ValueError, match="at least 16 x 16 pixels, as many as the masks have places; found 8 x 9"):
        hidden(Image.new("RGB", (8, 9)), np.zeros((1, GRID, GRID)))


# Words


def test_words_are_found_in_every_script_and_left_out_with_their_spaces():
    question = "Is  the patient's x-ray fine?"
    assert [question[slice(*word)] for word in find_words(question)][:4] == ["Is", "the", "patient", "'"]
    assert [("图里有3个人吗"[slice(*word)]) for word in find_words("图里有3个人吗")] == list("图里有3个人吗")
    words = find_words("is it red?")
    assert without("is it red?", words, [1]) == "is red?" and without("is it red?", words, [3, 0]) == "it red"


def test_the_word_that_counts_has_all_of_the_score_and_one_against_it_is_negative():
    def scores(questions):
        return np.array([5.0 * ("color" in one) - 2.0 * ("not" in one) for one in questions])

    for question in (COLOR, "what color is it not?", "is there not some color in this quite long question here?"):
        for method in (leave_some_out, leave_one_out):
            words, found = method(scores, question)
            expected = [{"color": 5.0, "not": -2.0}.get(word, 0.0) for word in words]
            np.testing.assert_allclose(found, expected, atol=1e-9)  # a sum over words is found exactly
    with pytest.raises(ValueError, match="two words or more, found 'color'"):
        leave_some_out(scores, "color")


def test_words_that_say_the_same_are_seen_though_either_alone_changes_nothing():
    def scores(questions):
        return np.array([float("red" in one or "crimson" in one) for one in questions])

    assert not leave_one_out(scores, "red crimson thing")[1].any()
    _, found = leave_some_out(scores, "red crimson thing")
    assert found[0] > 0.2 and found[1] > 0.2 and abs(found[2]) < 0.2


def test_words_that_are_not_read_score_exactly_0_and_are_in_no_question_that_is_asked():
    asked = []

    def scores(questions):
        asked.extend(questions)
        return np.array([5.0 * ("color" in one) + 2.0 * ("it" in one) for one in questions])

    question = "what color is it " * 400
    for read, places in (((0, 13), [0, 1, 2]), ((len(question) - 9, len(question)), [1597, 1598, 1599])):
        asked.clear()
        words, found = leave_some_out(scores, question, read=read)
        expected = {"color": 5.0, "it": 2.0}
        assert len(words) == len(found) == 1600 and len(asked) == 7  # of three words
        np.testing.assert_allclose(found[places], [expected.get(words[place], 0.0) for place in places], atol=1e-9)
        assert set(np.flatnonzero(found)) <= set(places)
        assert max(asked, key=len) in ("what color is", "color is it")
    with pytest.raises(ValueError, match="two words or more, found 'what'"):
        leave_some_out(scores, question, read=(0, 2))
    with pytest.raises(ValueError, match="at most 600 words to score, found 1,600"):
        leave_some_out(scores, question)


def test_every_word_is_left_out_and_no_question_is_without_words():
    for count in (2, 6, 7, 40):
        kept = kept_words(count, np.random.default_rng(0))
        assert kept.shape[1] == count and kept.any(axis=1).all() and (~kept).any(axis=0).all()


# Pipelines


@pytest.fixture(scope="session")
def light(exported):
    return LightPipeline(exported[0], threads=1)


@pytest.mark.slow
def test_the_score_is_that_of_the_pipeline_for_each_answer_and_head(light, pictures):
    for question, kind in itertools.product((COLOR, RED), (None, "binary", "open_ended")):
        for best in light(pictures[0], question, top_k=3, question_type=kind, abstain=False):
            scored = ScoredAnswer(light, pictures[0], question, best["answer"], kind)
            assert (scored.question_type, scored.score) == (
                best["question_type"],
                pytest.approx(best["score"], rel=1e-4),
            )
            odds = scored.of_images([scored.image] * 2)
            np.testing.assert_allclose(1 / (1 + np.exp(-odds)), scored.score, rtol=0.02)
            np.testing.assert_allclose(scored.of_questions([question, question]), odds, atol=1e-4)


@pytest.mark.slow
def test_an_exported_folder_is_explained_and_its_caches_stay_as_they_were(light, pictures):
    light(pictures[0], COLOR)
    before = len(light.image_cache)
    found = explain(light, pictures[0], COLOR, maps=["occlusion", "rise"])
    assert list(found.maps) == ["occlusion", "rise"] and found.words == ["what", "color", "is", "it", "?"]
    assert np.ptp(found.maps["occlusion"]) > 0 and np.ptp(found.word_scores) > 0
    assert len(light.image_cache) == before
    assert found.best_guess == light(pictures[0], COLOR)[0].get("best_guess")


@pytest.mark.slow
def test_the_words_of_a_long_question_are_scored_up_to_where_the_tower_reads(light, exported, pictures):
    for pipe in (light, load_onnx_pipeline(exported[0], threads=1)):
        found = explain(pipe, pictures[0], COLOR * 400, maps=[])
        assert len(found.words) == 2000 and 4 < np.flatnonzero(found.word_scores).max() < 16


def test_an_answer_that_there_is_not_is_refused_with_those_that_are_like_it():
    answers = {"binary": ["no", "yes"], "open_ended": ["red", "Blue"]}
    assert find_answer(answers, "blue") == find_answer(answers, " Blue. ") == ("open_ended", 1)
    assert find_answer({"open_ended": ["a", "a."]}, "A.") == ("open_ended", 1)
    with pytest.raises(ValueError, match="'bleu' is none of the model's 4 answers; did you mean Blue"):
        find_answer(answers, "bleu")
    with pytest.raises(ValueError, match="'cat' is none of the model's 2 binary answers; it has no, yes"):
        find_answer({"binary": ["no", "yes"]}, "cat")
    with pytest.raises(ValueError, match="expected an answer as text, one of the model's, found 5"):
        find_answer(answers, 5)


def test_the_largest_change_of_all_that_was_hidden_is_kept():
    asked = Remembered(lambda images: np.array(images, float))
    for images in ([1.0], [1.2, 0.5], [1.4]):
        asked(images)
    assert asked.largest_change() == 0.5

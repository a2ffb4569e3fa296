"""The drawing of an explanation."""

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import findfont, fontManager
from matplotlib.text import Text
from PIL import Image

from dualvqa.trust.explanation import Explanation
from dualvqa.trust.explanation_drawing import PANEL, draw_explanation, lay_out
from dualvqa.trust.fonts import fallback_fonts, signs_of


@pytest.fixture
def explanation():
    return Explanation(
        question="what $color$ is it?",
        answer="red",
        score=0.875,
        question_type="open_ended",
        maps={
            "occlusion": np.array([[0.0, 2.0], [1.0, 0.0], [0.5, 0.0]]),
            "attention": np.array([[0.1, 0.2], [0.3, 0.1], [0.1, 0.1]]),
            "layer_cam": np.eye(12, 8),
        },
        words=["what", "$color$", "is", "it", "?"],
        word_scores=np.array([0.012, -0.049, 0.0, 0.001, 0.003]),
        evidence=[{"image": "one.png", "question": "what?", "answer": "mauve", "similarity": 0.5, "weight": 0.25}],
        changes={"occlusion": 2.5},
    )


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")) if text.get_text()]


def test_the_drawing_says_what_was_asked_and_answered_and_what_each_word_scored(explanation, tmp_path):
    image = Image.new("RGB", (20, 30), "red")
    figure = draw_explanation(explanation, image, tmp_path / "explained.png")
    found = texts(figure)
    said = " ".join(found).replace("\n", " ")
    assert "what $color$ is it?  →  red (87.5%)" in said
    assert "remembered: what? → mauve (one.png), 25% of the vote" in said
    assert "hidden by a window, 3 × 2 places\nlog-odds go up or down by up to 2.5" in found and "+0.012" in found
    assert {"LayerCAM, 12 × 8 places\nmaximum 1", "attention of the question, 3 × 2 places\nmaximum 0.3"} <= set(found)
    assert "almost nothing" not in said
    assert found[found.index("$color$") + 1] == "-0.049"
    with Image.open(tmp_path / "explained.png") as drawn:
        assert drawn.width > 800 and len(drawn.convert("RGB").getcolors(2**20)) > 50


def test_maps_cover_the_whole_image_as_shares_of_their_maximum(explanation):
    figure = draw_explanation(explanation, np.zeros((30, 20, 3), dtype=np.uint8))
    image, grey, overlay, *_ = [shown for axes in figure.axes for shown in axes.get_images()]
    assert image.get_array().shape == (30, 20, 3) and grey.get_extent() == overlay.get_extent()
    np.testing.assert_array_equal(overlay.get_array(), explanation.maps["occlusion"] / 2)


def test_of_a_cropped_image_maps_of_gradients_cover_the_part_that_was_seen_and_those_of_hiding_all(explanation):
    crop = {"size": {"shortest_edge": 40}, "crop_size": {"height": 30, "width": 20}}
    figure = draw_explanation(replace(explanation, crop=crop), np.zeros((100, 80, 3), dtype=np.uint8))
    _, grey, hiding, _, overlay, *_ = [shown for axes in figure.axes for shown in axes.get_images()]
    assert hiding.get_extent() == grey.get_extent()
    assert tuple(overlay.get_extent()) == (19.5, 59.5, 79.5, 19.5)
    assert tuple(grey.get_extent()) == (-0.5, 79.5, 99.5, -0.5)
    assert grey.axes.get_xlim() == (-0.5, 79.5) and grey.axes.get_ylim() == (99.5, -0.5)


def test_a_map_of_zeros_is_named_and_so_are_missing_words(explanation):
    empty = replace(explanation, maps={"occlusion": np.zeros((3, 2))}, words=["what"], word_scores=None)
    found = texts(draw_explanation(empty, Image.new("L", (20, 30))))
    assert "hidden by a window, 0 everywhere" in found and "the words have no scores" in found
    alone = texts(draw_explanation(replace(empty, question="what"), Image.new("L", (20, 30))))
    assert "one word alone can't be left out" in alone
    assert "image" in texts(draw_explanation(replace(empty, maps={}), Image.new("L", (20, 30))))


@pytest.mark.parametrize(
    "unfamiliar, said",
    [
        ({"image": True, "question": False}, "the image is unlike what the model was trained on"),
        ({"image": True, "question": True}, "the image and the question are unlike"),
        ({"image": None, "question": None}, "the image or the question is unlike"),
    ],
)
def test_the_drawing_says_what_is_unlike_the_training_data(explanation, unfamiliar, said):
    image = Image.new("RGB", (20, 30), "red")
    figure = draw_explanation(replace(explanation, unfamiliar=unfamiliar), image)
    assert f"Mind: {said}" in " ".join(texts(figure)).replace("\n", " ")
    assert "Mind" not in " ".join(texts(draw_explanation(explanation, image)))


def test_the_drawing_says_that_the_question_is_left_unanswered(explanation):
    figure = draw_explanation(replace(explanation, best_guess="red"), Image.new("RGB", (20, 30), "red"))
    said = "Mind: the model is not sure: it leaves this question unanswered, with 'red' as its best guess"
    assert said in " ".join(texts(figure)).replace("\n", " ")


def test_the_drawing_of_a_wide_image_is_no_taller_than_it_needs(explanation):
    heights = [
        draw_explanation(explanation, Image.new("RGB", size)).get_size_inches()[1]
        for size in ((400, 40), (400, 400), (40, 400))
    ]
    assert heights[0] == pytest.approx(heights[1] - 2 * 0.9 * PANEL) and heights[1] == heights[2]


def test_examples_of_the_memory_leave_no_empty_band_in_the_drawing(explanation):
    figure = draw_explanation(replace(explanation, evidence=explanation.evidence * 12), Image.new("RGB", (30, 30)))
    figure.set_dpi(40)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = (np.asarray(canvas.buffer_rgba())[..., :3] < 255).any(axis=(1, 2))  # (rows,)
    bands = [len(list(rows)) for some, rows in itertools.groupby(drawn) if not some]
    assert max(bands) < 0.5 * figure.dpi  # half an inch


def test_a_very_long_question_is_drawn_in_part_and_that_is_said(explanation):
    words = ["word"] * 2_000
    long = replace(explanation, question=" ".join(words), words=words, word_scores=np.ones(2_000))
    figure = draw_explanation(long, Image.new("RGB", (60, 90)))
    shown = texts(figure)
    assert shown.count("word") == 150 and any("the first 150 of 2,000 words" in text for text in shown)
    assert figure.get_figheight() < 30


def test_where_the_image_hardly_matters_the_drawing_says_so_in_words_and_how_little(explanation):
    small = replace(explanation, maps={"occlusion": np.eye(3, 2) / 400}, changes={"occlusion": 0.0041})
    figure = draw_explanation(small, Image.new("L", (20, 30)))
    found, (_, _, overlay, *_) = texts(figure), [shown for axes in figure.axes for shown in axes.get_images()]
    assert overlay.get_array().max() == pytest.approx(0.0041 / 0.05)  # and it is pale
    told = "hiding places of the image changes almost nothing: the answer's log-odds by at most 0.0041"
    assert any(told in text.replace("\n", " ") for text in found)
    assert "hidden by a window, 3 × 2 places\nlog-odds go up or down by up to 0.0041" in found
    assert replace(small, changes={"occlusion": 0.0041, "rise": 0.06}).hardly_matters() is None
    assert replace(small, changes={}).hardly_matters() is None


def test_signs_without_a_font_are_told_once_and_not_for_each_sign(explanation, monkeypatch, tmp_path):
    foreign = replace(
        explanation, question="图片里有什么?", words=list("图片里有什么?"), word_scores=np.ones(7), maps={}
    )
    monkeypatch.setattr(fontManager, "ttflist", [font for font in fontManager.ttflist if "DejaVu" in font.name])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        draw_explanation(foreign, Image.new("L", (20, 30)), tmp_path / "drawn.png")
    (only,) = [str(one.message) for one in told]
    assert "no installed font has the signs" in only and "图" in only
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fallback_fonts("ü → ж") == []


def test_signs_that_another_installed_font_has_are_drawn_with_it(explanation):
    sign = chr(next(iter(signs_of(findfont("STIXGeneral")) - signs_of(findfont("DejaVu Sans")))))
    assert fallback_fonts(f"what {sign}?") == ["STIXGeneral"]
    figure = draw_explanation(replace(explanation, words=[sign], evidence=None), Image.new("L", (20, 30)))
    shown = next(text for text in figure.findobj(Text) if text.get_text() == sign)
    assert shown.get_fontfamily() == ["monospace", "STIXGeneral"]


def test_words_fill_lines(explanation):
    lines = lay_out(explanation.words, explanation.word_scores, line_width=24)
    assert [[word for word, *_ in line] for line in lines] == [
        ["what", "$color$"],
        ["is", "it", "?"],
    ]
    assert all(left + width <= 24 for line in lines for *_, left, width in line)
    assert lines[0][1][1] == -1.0 and lines[1][0][2] == "+0.000"

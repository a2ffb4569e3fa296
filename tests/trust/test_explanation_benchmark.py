"""The figures of the page about explanations, each computed again in a few lines."""

import importlib
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image
from scipy.stats import rankdata


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.fixture
def square():
    """A map of 4 x 4 places and an image of which the answer needs the first place alone, in red."""
    pixels = np.full((64, 64, 3), 128, np.uint8)
    pixels[:16, :16] = (255, 0, 0)
    values = np.zeros((4, 4))
    values[0, 0] = 1.0

    def of_images(images):
        share = np.array([(np.asarray(image)[:16, :16, 0] == 255).mean() for image in images])
        return np.log((share + 1e-9) / (1 - share + 1e-9))

    return SimpleNamespace(image=Image.fromarray(pixels), of_images=of_images), values


def test_the_area_under_a_curve_is_that_of_its_trapezoids(script):
    area, gain = script("explanation_curves").area, script("explanation_curves").gain
    assert area([1.0, 0.0]) == 0.5 and area([1, 1, 1]) == 1 and area([0, 1, 1, 1]) == pytest.approx(2.5 / 3)
    assert area([0.25, 0.5, 1.0]) == pytest.approx(np.trapezoid([0.25, 0.5, 1.0], dx=0.5))
    assert gain({"deletion": [1.0, 0.0, 0.0], "insertion": [0.0, 1.0, 1.0]}) == 0.5
    both = {"mean": {"deletion": [1, 0], "insertion": [0, 0]}, "blur": {"deletion": [0, 0], "insertion": [1, 1]}}
    assert gain(both) == (-0.5 + 1) / 2


def test_a_map_of_what_counts_loses_the_answer_at_once_and_brings_it_at_once(script, square):
    scored, values = square
    curves = script("explanation_curves")
    found = curves.image_curves(scored, values, np.random.default_rng(0))["mean"]
    assert len(found["deletion"]) == len(found["insertion"]) == 11
    assert found["deletion"][0] > 0.99 and max(found["deletion"][2:]) < 0.01  # 1/16 of the pixels
    assert found["insertion"][0] < 0.01 and min(found["insertion"][2:]) > 0.99
    worst = curves.image_curves(scored, -values, np.random.default_rng(0))
    assert curves.gain(found) > 0.8 and curves.gain(worst) < -0.8
    nothing = [curves.gain(curves.image_curves(scored, 0 * values, np.random.default_rng(seed))) for seed in range(5)]
    assert abs(np.mean(nothing)) < 0.02  # pixels of the same value go in an order of chance


def test_words_are_left_out_from_the_highest_score_on(script):
    asked = []
    scored = SimpleNamespace(of_questions=lambda questions: asked.extend(questions) or np.zeros(len(questions)))
    found = script("explanation_curves").word_curves(scored, "what color is it", [0.1, 3.0, -1.0, 0.5])
    assert asked[:4] == ["what color is it", "what is it", "what is", "is"]
    assert asked[4:] == ["color", "color it", "what color it", "what color is it"]
    assert found == {"deletion": [0.5] * 4, "insertion": [0.5] * 4}


def test_shares_and_pointing_are_those_counted_by_hand(script):
    module = script("explanation_questions")
    image = np.full((64, 64, 3), 200, dtype=np.uint8)
    image[8:24, 0:16] = [255, 0, 0]  # half of the two upper places of the first column
    mask = module.shape_mask(image)
    assert mask.sum() == 256 and mask[8:24, 0:16].all()
    assert module.touched(mask, (4, 4)).nonzero()[0].tolist() == [0, 1]
    assert module.near(mask, (4, 4)).sum() == 40 * 32  # rows 0 to 39, columns 0 to 31
    right, wrong, nothing = np.zeros((3, 4, 4))
    right[1, 0], right[3, 3], wrong[3, 3] = 3, 1, 2
    expected = {"points": True, "chance": 2 / 16, "on": 0.75 * 0.5, "near": 0.75, "size": 1 / 16}
    assert module.localisation(right, mask) == pytest.approx(expected)
    assert module.localisation(wrong, mask) == pytest.approx({**expected, "points": False, "on": 0, "near": 0})
    assert module.localisation(nothing, mask) == {"points": False, "chance": 2 / 16}


def test_models_are_compared_on_the_questions_that_all_were_asked(script):
    def row(deletion, insertion):
        curves = {"deletion": [deletion] * 2, "insertion": [insertion] * 2}
        return {"curves": {"occlusion": {"mean": curves}, "random": {"mean": {**curves, "insertion": [deletion] * 2}}}}

    found = {
        ("a", None, 0): [row(0.25, 0.75), row(0.5, 1.0), row(0.0, 1.0)],
        ("b", None, 0): [row(0, 1), row(0.5, 0.5)],
    }
    lines = [line.strip("| ") for line in script("explanation").model_table(found, ["a", "b"]).splitlines()]
    assert lines[0] == "gain of | a | b | mean | less than occlusion"
    assert lines[2] == "occlusion | +0.500 | +0.500 | +0.500 ± 0.000"  # the third question was asked of one alone
    assert lines[3] == "random | +0.000 | +0.000 | +0.000 ± 0.000 | 2"


def test_an_explanation_is_timed_question_by_question_and_the_first_is_left_out(script, monkeypatch):
    speed, asked = script("explanation_speed"), []
    clock = iter([0.0, 9.0, 9.0, 10.5, 10.5, 11.0])
    monkeypatch.setattr(speed, "explain", lambda pipe, path, question: asked.append(question))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    assert speed.seconds_of(None, [("a.png", question, "x") for question in "one"]) == [1.5, 0.5]
    assert asked == ["o", "n", "e"]


@pytest.fixture
def saved(tiny_model, processor, tmp_path):
    """A folder with a saved model in `model`."""
    tiny_model(fusion_type="cross_attention").save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    return tmp_path


@pytest.mark.slow
def test_the_page_has_the_figures_of_its_rows_and_a_plot(saved, script, monkeypatch):
    pytest.importorskip("easy_vqa", reason="easy-VQA's images come with its package")
    page = saved / "explanation.md"
    flags = ["--models", str(saved / "model"), "--output", str(page), "--rows", str(saved / "rows")]
    flags += ["--images", "4", "--seeds", "2", "--examples", "2"]
    (saved / "rows").mkdir()
    told = {"model": "model", "runtime": "PyTorch", "size": "64 x 64", "threads": 2, "seconds": [0.5, 0.25, 2.0]}
    (saved / "rows" / "times.jsonl").write_text(json.dumps(told) + "\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["explanation.py", *flags])
    script("explanation").main()
    lines = [line.strip("| ").split(" | ") for line in page.read_text(encoding="utf-8").splitlines() if "|" in line]
    rows = [
        [json.loads(line) for line in (saved / "rows" / f"model_{seed}.jsonl").read_text(encoding="utf-8").splitlines()]
        for seed in range(2)
    ]
    curves = [[row["curves"]["combined"] for row in of_seed] for of_seed in rows]
    gains = [
        [
            np.mean([np.trapezoid(c["insertion"]) - np.trapezoid(c["deletion"]) for c in one.values()]) / 10
            for one in of_seed
        ]
        for of_seed in curves
    ]
    (found,) = [line for line in lines if line[:2] == ["model", "combined"]]
    assert found[2] == "8" and found[7] == f"{np.mean(gains):+.3f} ± {np.std(np.mean(gains, axis=1)):.3f}"
    (words,) = [line for line in lines if line[:2] == ["model", "some left out"]]
    told = [row["word curves"]["some left out"] for of_seed in rows for row in of_seed]
    areas = [[np.trapezoid(c[name], dx=1 / (len(c[name]) - 1)) for c in told] for name in ("deletion", "insertion")]
    assert words[3:5] == [f"{np.mean(area):.3f}" for area in areas] and words[5].startswith(
        f"{np.mean(areas[1]) - np.mean(areas[0]):+.3f} ±"
    )
    (kinds,) = [line for line in lines if line[0] == "Grad-CAM" and len(line) == 6]
    answered = {name: [] for name in ("yes", "no", "open-ended")}
    for row in rows[0] + rows[1]:
        curves = [
            np.trapezoid(c["insertion"]) - np.trapezoid(c["deletion"]) for c in row["curves"]["Grad-CAM"].values()
        ]
        answered[row["answer"] if row["type"] == "binary" else "open-ended"].append(np.mean(curves) / 10)
    assert kinds[1:4] == [f"{np.mean(gains):+.3f}" if gains else "" for gains in answered.values()]
    (shape,) = [line for line in lines if line[0] == "combined" and len(line) == 9]
    assert shape[2] == f"{100 * np.mean([row['shape']['occlusion']['points'] for seed in rows for row in seed]):.1f}"
    (ranks,) = [line for line in lines if line[0] == "everything random"]
    pairs = []
    for seed, of_seed in enumerate(rows):
        others = (saved / "rows" / f"model_{seed}_everything.jsonl").read_text(encoding="utf-8").splitlines()
        for row, other in zip(of_seed, map(json.loads, others)):
            pairs.append([rankdata(one["maps"]["occlusion"]) for one in (row, other)])
    expected = [np.corrcoef(*pair)[0, 1] for pair in pairs]
    assert ranks[1] == f"{np.mean(expected):+.2f} ± {np.std(expected):.2f} (4)"
    assert ["model", "PyTorch", "64 x 64", "0.50", "0.25 to 2.00"] in lines
    with Image.open(page.with_suffix(".png")) as sheet:
        assert sheet.width > 700

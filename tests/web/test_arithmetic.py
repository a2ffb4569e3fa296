"""The page's functions under node give what Python's give: pixels, token ids, answers."""

import base64
import shutil

import numpy as np
import pytest
from page_functions import called, given
from PIL import Image

from dualvqa_light.decoding import Decoder
from dualvqa_light.preprocessing import RESAMPLING, to_pixels

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None, reason="the page's functions are run by node: not installed"
)
NORMALISATION = {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
SIZES = (
    ({"height": 32, "width": 24}, None),
    ({"shortest_edge": 21}, {"height": 16, "width": 17}),
    ({"shortest_edge": 15}, {"height": 30, "width": 17}),  # larger than the image
    (None, {"height": 25, "width": 26}),
)
ANSWERS = {"binary": ["no", "yes"], "open_ended": ["red", "a ball", "two", "grün"]}
CALIBRATION = {
    "temperatures": {"binary": 0.5, "open_ended": 2.0, "question_type": 1.5},
    "abstention": {"threshold": 0.4},
    "familiarity": {"image": 1.0, "question": 1.0},
}
UNEQUAL = {(True, False), (False, True)}
EARLIER = {**CALIBRATION, "familiarity": {"distance": 1.0, "binary_energy": -1.0, "open_ended_energy": -1.0}}
BY_HEAD = {"by": "head", "groups": {"binary": {"threshold": 0.4}, "open_ended": None}}
BY_ORGAN = {"by": "organ", "groups": {"CHEST": {"threshold": 0.1}}}


def test_pixels_are_those_of_pillow_to_the_last_bit():
    rng = np.random.default_rng(0)
    calls, expected = [], []
    for width, height in ((45, 35), (17, 61), (7, 5), (24, 32), (3, 301), (300, 2)):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for resample in RESAMPLING:
            for resize, crop in SIZES:
                settings = {**NORMALISATION, "resize": resize, "resample": resample, "crop": crop}
                calls.append(["pixels", given(image), settings])
                expected.append(to_pixels(image, settings))
    for found, pixels in zip(called(*calls), expected, strict=True):
        assert found["dims"] == list(pixels.shape)
        data = np.frombuffer(base64.b64decode(found["data"]), np.float32).reshape(pixels.shape)
        np.testing.assert_array_equal(data, pixels)


def test_of_a_very_long_image_only_the_same_part_is_resized():
    rng = np.random.default_rng(0)
    settings = {**NORMALISATION, "resize": SIZES[1][0], "resample": "bicubic", "crop": SIZES[1][1]}
    for width, height in ((100_000, 1), (1, 50_001), (901, 3), (4, 701)):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        (found,) = called(["pixels", given(image), settings])
        data = np.frombuffer(base64.b64decode(found["data"]), np.float32).reshape(found["dims"])
        np.testing.assert_array_equal(data, to_pixels(image, settings))


@pytest.mark.parametrize("heads", [("binary",), ("open_ended",), ("binary", "open_ended")], ids="+".join)
@pytest.mark.parametrize("calibration", [None, CALIBRATION, EARLIER], ids=["plain", "calibrated", "earlier"])
def test_answers_are_those_of_the_light_runtime(heads, calibration):
    rng = np.random.default_rng(1)
    names = [*heads, "question_type"] if len(heads) == 2 else heads
    widths = {"binary": 2, "open_ended": 4, "question_type": 2}
    outputs = {f"{name}_logits": rng.normal(0, 2, (40, widths[name])).astype(np.float32) for name in names}
    for name in ("novelty", "image_novelty", "question_novelty"):
        outputs[name] = rng.uniform(0.4, 1.2, 40).astype(np.float32)
    expected = Decoder(ANSWERS, calibration)(outputs, top_k=3)
    manifest = {"answers": ANSWERS, "calibration": calibration}
    rows = [{name: array[row].reshape(-1).tolist() for name, array in outputs.items()} for row in range(40)]
    for found, best in zip(called(*[["decode", row, manifest, 3] for row in rows]), expected, strict=True):
        assert [one["answer"] for one in found["answers"]] == [one.get("best_guess", one["answer"]) for one in best]
        assert [one["score"] for one in found["answers"]] == pytest.approx([one["score"] for one in best], abs=1e-6)
        assert found["unanswered"] == (best[0]["answer"] is None)
        assert found["unfamiliar"] == best[0].get("unfamiliar")
        assert found["questionType"] == best[0]["question_type"]
    if calibration:
        foreign = {tuple(best[0].get("unfamiliar", {"nothing": True}).values()) for best in expected}
        assert foreign == ({(True,), (None, None)} if calibration is EARLIER else {(True,), *UNEQUAL, (True, True)})
        assert len(heads) == 1 or {best[0]["answer"] is None for best in expected} == {True, False}


def test_thresholds_of_groups_are_those_of_the_light_runtime():
    rng = np.random.default_rng(2)
    widths = {"binary_logits": 2, "open_ended_logits": 4, "question_type_logits": 2}
    outputs = {name: rng.normal(0, 2, (30, width)).astype(np.float32) for name, width in widths.items()}
    rows = [{name: array[row].tolist() for name, array in outputs.items()} for row in range(30)]
    for abstention, expected in ((BY_HEAD, {True, False}), (BY_ORGAN, {True})):
        manifest = {"answers": ANSWERS, "calibration": {"abstention": abstention}}
        best = Decoder(ANSWERS, manifest["calibration"])(outputs)
        found = [one["unanswered"] for one in called(*[["decode", row, manifest, 1] for row in rows])]
        assert found == [items[0]["answer"] is None for items in best] and set(found) == expected


def test_damaged_values_and_a_wrong_list_of_answers_are_errors():
    broken = {"binary_logits": [1.0, None]}
    short = {"open_ended_logits": [1.0, 2.0]}
    manifest = {"answers": ANSWERS, "calibration": None}
    found = called(["decode", broken, manifest, 1], ["decode", short, manifest, 1])
    assert "aren't finite" in str(found[0])
    assert "2 answers and their list 4" in str(found[1])


def test_a_long_question_is_cut_as_the_tokenizers_library_cuts_it():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(WordLevel({str(number): number for number in range(120)}, unk_token="0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single="101 $A 102", special_tokens=[("101", 101), ("102", 102)])
    for side in ("left", "right"):
        calls, expected = [], []
        for words in (1, 4, 5, 6, 20):
            question = " ".join(str(number) for number in range(1, words + 1))
            tokenizer.enable_truncation(7, direction=side)
            calls.append(["encode", question, {"max_tokens": 7, "truncation_side": side}])
            expected.append({"ids": tokenizer.encode(question).ids, "cut": words > 5})
        assert called(*calls) == expected


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("", "Type a question first"),
        (" \t\u200b\n", "Type a question first"),
        ("1 " * 500_000, "it has 1,000,000 characters, at most 10,000 are read"),
        ("1 \ud83d", "half a character"),
    ],
    ids=["empty", "blank", "a million letters", "half a character"],
)
def test_a_question_that_nobody_can_answer_is_refused_in_words(question, message):
    assert message in str(called(["encode", question, {"max_tokens": 7}])[0])


def test_a_model_of_another_format_or_without_its_parts_is_refused():
    whole = {"format": 2, "image": {}, "question": {"tokenizer": "tokenizer.json"}, "answers": {}}
    whole["files"] = {name: "a" for name in ("vision.onnx", "text.onnx", "heads.onnx", "tokenizer.json")}
    cases = [whole, {**whole, "format": 3}, {**whole, "image": None}, {**whole, "files": {"vision.onnx": "a"}}, None]
    found = called(*[["checkedManifest", case] for case in cases])
    assert found[0] == whole
    assert "has format 3, and this page reads format 2" in str(found[1])
    assert "doesn't say how the image is read" in str(found[2])
    assert "names no file text.onnx" in str(found[3])
    assert "has format undefined" in str(found[4])


def test_a_browser_without_webassembly_or_its_simd_is_told_what_to_do():
    here, without, old = called(["whatIsMissing", "this"], ["whatIsMissing", {}], ["withoutSimd"])
    assert here is None
    assert "switch it on, or open this page in another browser" in without
    assert "no SIMD instructions. Chrome and Edge have them from version 91" in old

"""A manifest that was changed, and files that don't fit each other, are told before a question is asked."""

import copy
import json
from types import SimpleNamespace

import pytest

from dualvqa_light.folder import FORMAT, MANIFEST, file_hash, open_sessions
from dualvqa_light.manifest_checks import check_fields, check_graphs
from dualvqa_light.pipeline import read_settings

RIGHT = {
    "format": FORMAT,
    "files": {"vision.onnx": "", "tokenizer.json": ""},
    "image": {
        "resize": {"height": 32, "width": 48},
        "resample": "bilinear",
        "crop": None,
        "scale": 1 / 255,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
    "question": {
        "tokenizer": "tokenizer.json",
        "max_tokens": 16,
        "truncation_side": "right",
        "padding_side": "right",
        "padding_id": 0,
    },
    "answers": {"binary": ["no", "yes"], "open_ended": ["red", "green", "blue"]},
}


def test_what_an_export_writes_is_right():
    for resize, crop in (
        ({"shortest_edge": 40}, {"height": 32, "width": 32}),
        ({"height": 32, "width": 48}, None),
        (None, None),
    ):
        manifest = copy.deepcopy(RIGHT)
        manifest["image"] |= {"resize": resize, "crop": crop, "resample": "bicubic" if resize else None}
        manifest["question"]["max_tokens"] = None
        check_fields("folder", manifest)


@pytest.mark.parametrize(
    ("group", "name", "value", "expected"),
    [
        ("image", "resize", {"height": 0, "width": 32}, "height and width, shortest_edge, or null"),
        ("image", "resize", "32", "height and width"),
        ("image", "resample", "cubic", "one of nearest, lanczos"),
        ("image", "resample", [], "one of nearest, lanczos"),
        ("image", "crop", {"shortest_edge": 32}, "height and width, or null"),
        ("image", "scale", 0, "a number above 0"),
        ("image", "mean", [0.5, 0.5], "three numbers"),
        ("image", "mean", None, "three numbers"),
        ("image", "std", [0.5, 0.0, 0.5], "three numbers above 0"),
        ("image", "std", [0.5, float("nan"), 0.5], "three numbers above 0"),
        ("question", "tokenizer", None, "the name of a file"),
        ("question", "max_tokens", "many", "a whole number from 3, or null"),
        ("question", "max_tokens", -1, "a whole number from 3, or null"),
        ("question", "truncation_side", "up", "left or right"),
        ("question", "padding_side", "up", "left or right"),
        ("question", "padding_id", None, "a whole number from 0"),
        ("answers", "binary", ["no"], "the words for no and yes"),
        ("answers", "binary", "ny", "the words for no and yes"),
        ("answers", "open_ended", [1, 2, 3], "a list of texts"),
    ],
)
def test_a_field_that_is_something_else_or_missing_is_named(tmp_path, group, name, value, expected):
    manifest = copy.deepcopy(RIGHT)
    manifest[group][name] = value
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(
        ValueError, match=f"{MANIFEST} of .* is damaged: expected {expected}.* as {group}.{name}, found"
    ):
        read_settings(tmp_path)
    del manifest[group][name]
    with pytest.raises(ValueError, match=f"as {group}.{name}, found None; export the model again"):
        check_fields("folder", manifest)


@pytest.mark.parametrize("place", ["/etc/passwd", "../tokenizer.json", "other.json"])
def test_no_file_is_read_that_was_not_exported(place):
    manifest = copy.deepcopy(RIGHT)
    manifest["question"]["tokenizer"] = place
    for changed in (manifest, {**RIGHT, "evidence": place}):
        with pytest.raises(ValueError, match=f"expected a file that is named in files .*found '{place}'"):
            check_fields("folder", changed)


def session(inputs, outputs):
    tensors = [[SimpleNamespace(name=name, shape=shape) for name, shape in part.items()] for part in (inputs, outputs)]
    return SimpleNamespace(get_inputs=lambda: tensors[0], get_outputs=lambda: tensors[1])


IMAGES, TEXTS, LOGITS = ["images", 5, 24], ["questions", "tokens", 16], {"binary_logits": ["rows", 2]}


def parts(pixels=("images", 3, 32, 48), images=IMAGES, texts=TEXTS, logits=LOGITS):
    return {
        "vision": session({"pixel_values": list(pixels)}, {"image_embeds": IMAGES}),
        "text": session({"input_ids": ["questions", "tokens"]}, {"text_embeds": TEXTS}),
        "heads": session({"image_embeds": images, "text_embeds": texts, "image_index": ["rows"]}, logits),
    }


def test_parts_of_one_model_fit_each_other_with_one_head_or_two():
    check_graphs("folder", RIGHT, parts())
    check_graphs("folder", RIGHT, parts(logits={"open_ended_logits": ["rows", 3], "novelty": ["rows"], **LOGITS}))
    free = {**RIGHT, "image": {**RIGHT["image"], "resize": {"shortest_edge": 20}}}
    check_graphs("folder", free, parts(pixels=("images", 3, "height", "width")))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"pixels": ("images", 3, 48, 32)},
            "vision.onnx of folder takes pixel_values of .*3, 48, 32.* different models",
        ),
        ({"images": ["images", 7, 24]}, "heads.onnx of folder takes image_embeds"),
        ({"texts": ["questions", "tokens", 8]}, "heads.onnx of folder takes text_embeds"),
        ({"logits": {"open_ended_logits": ["rows", 4]}}, "open_ended_logits of .*, and the vocabulary has 3 answers"),
        ({"logits": {"novelty": ["rows"]}}, "gives novelty: no logits"),
    ],
)
def test_parts_of_different_models_are_told(changed, said):
    with pytest.raises(ValueError, match=said):
        check_graphs("folder", RIGHT, parts(**changed))


def test_a_part_that_is_missing_is_named():
    with pytest.raises(ValueError, match="folder has vision, text, and not heads; export that part too"):
        check_graphs("folder", RIGHT, {name: part for name, part in parts().items() if name != "heads"})


def test_a_file_that_onnxruntime_cannot_open_is_told(tmp_path):
    for content in (b"", b"no graph"):
        (tmp_path / "vision.onnx").write_bytes(content)
        files = {"vision.onnx": file_hash(tmp_path / "vision.onnx")}
        (tmp_path / MANIFEST).write_text(json.dumps({**RIGHT, "files": files}))
        with pytest.raises(ValueError, match="onnxruntime can't open .*vision.onnx: .*; export the model again"):
            open_sessions(tmp_path)

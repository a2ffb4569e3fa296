"""The light pipeline gives the answers of the pipeline, and needs nothing of it."""

import json
import subprocess
import sys

import numpy as np
import pytest
from helpers import COLOR, QUESTIONS, RED, ROOT
from PIL import Image

from dualvqa_light import LightPipeline
from dualvqa_light.folder import MANIFEST

NEEDED = ("numpy", "PIL", "tokenizers", "onnxruntime")
ALONE = """
import importlib.metadata, json, sys
sys.path[:] = [path for path in sys.path if path]
heavy = {name for names in (sys.argv[3],) for name in names.split(",")}
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in heavy:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Nothing())
from dualvqa_light import LightPipeline
pipe = LightPipeline(sys.argv[1], threads=1)
print(json.dumps(pipe(json.loads(sys.argv[2]), ["what color is it?", "is it red?"], top_k=2)))
"""


def near(found, expected):
    """Answers of the one as of the other, scores to 1e-3."""
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            near(one, other)
    else:
        assert found == {**expected, "score": pytest.approx(expected["score"], abs=1e-3)}


class Counting(LightPipeline):
    encoded = []

    def run(self, part, **inputs):
        self.encoded.append(part)
        return super().run(part, **inputs)


@pytest.fixture(scope="session")
def light(exported):
    return LightPipeline(exported[0], threads=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 10},
        {"question_type": "binary", "top_k": 2},
        {"question_type": "open_ended"},
        {"abstain": False},
        {"abstain": True, "batch_size": 3},
    ],
)
def test_answers_are_those_of_the_pipeline(light, exported, pictures, options):
    near(light(pictures, QUESTIONS, **options), exported[1](pictures, QUESTIONS, **options))


@pytest.mark.slow
def test_calibration_abstention_unfamiliarity_router_and_memory_are_all_in_what_is_compared(light, pictures):
    found = [item for best in light(pictures, QUESTIONS, top_k=9) for item in best]
    assert {item["question_type"] for item in found} == {"binary", "open_ended"}
    assert {"ja", "mauve"} <= {item.get("best_guess", item["answer"]) for item in found}
    assert any(item["answer"] is None for item in found) and any(item["answer"] is not None for item in found)
    assert {"unfamiliar" in item for item in found} == {True, False}
    assert light(Image.new("RGB", (40, 30), "red"), "what is there?", abstain=False)[0]["answer"] == "mauve"


@pytest.mark.slow
def test_it_answers_where_nothing_else_can_be_imported(exported, pictures):
    folder, pipe = exported
    heavy = "torch,torchvision,transformers,datasets,huggingface_hub,safetensors,scipy,pandas,sklearn,yaml"
    heavy += ",dualvqa,modeling_dualvqa,processing"
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder), json.dumps(pictures), heavy],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    near(json.loads(done.stdout), pipe(pictures, [COLOR, RED], top_k=2))


@pytest.mark.slow
def test_rows_lists_and_generators_come_back_as_from_the_pipeline(light, exported, pictures):
    pipe, (path, other, *_) = exported[1], pictures
    near(light(path, RED), pipe(path, RED))
    near(light([path], RED), pipe([path], RED))
    near(light(path, [RED]), pipe(path, [RED]))
    near(light({"image": path, "question": [RED, COLOR]}), pipe({"image": path, "question": [RED, COLOR]}))
    rows = [
        {"image": path, "question": RED},
        {"image": other, "question": [COLOR, RED]},
        {"image": path, "question": RED},
    ]
    near(light(rows), pipe(rows))
    stream = light(row for row in rows)
    assert not isinstance(stream, list)
    near(list(stream), list(pipe(row for row in rows)))
    assert light([]) == pipe([]) == []


@pytest.mark.slow
def test_images_as_bytes_objects_and_arrays_answer_as_their_file(light, pictures):
    path = pictures[0]
    expected = light(path, RED)
    image = Image.open(path)
    upright = image.transpose(Image.Transpose.ROTATE_270)
    content = open(path, "rb").read()
    for given in (content, image, {"bytes": content, "path": None}, np.asarray(upright)):
        near(light(given, RED), expected)


@pytest.mark.slow
def test_an_image_is_encoded_once_and_again_only_without_a_cache(exported, pictures):
    counts = []
    for mib in (64, 0):
        light, encoded = Counting(exported[0], threads=1, embedding_cache_mib=mib), Counting.encoded
        encoded.clear()
        for question in (RED, COLOR, RED):
            light(pictures[0], question)
        counts.append((encoded.count("vision"), encoded.count("text"), encoded.count("heads")))
    assert counts == [(1, 2, 3), (3, 3, 3)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "call, message",
    [
        (({"image": "x.png"},), r"expected a dict with image and question, found \['image'\]"),
        (("x.png", ""), "expected a question as text, found ''"),
        (("x.png", []), "found an empty list"),
        ((None, RED), "expected an image for the question"),
        (("nowhere.png", RED), "nowhere.png: No such file"),
        (([["x.png"]], RED), "give each image a row of its own"),
        (("x.png",), "expected a dict with image and question, found str"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_reason(light, call, message):
    with pytest.raises(ValueError, match=message):
        light(*call)


@pytest.mark.slow
def test_odd_options_are_refused(light, exported, pictures, tmp_path):
    for options, error in (
        ({"top_k": 0}, ValueError),
        ({"question_type": "both"}, ValueError),
        ({"beams": 3}, TypeError),
    ):
        with pytest.raises(error):
            light(pictures[0], RED, **options)
    with pytest.raises(ValueError, match="at most 16 tokens without truncation"):
        light(pictures[0], "red " * 40, truncation=False)
    near(light(pictures[0], "red " * 40), exported[1](pictures[0], "red " * 40))
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"readable image at .*broken.png: no image"):
        light(str(tmp_path / "broken.png"), RED)
    closed = LightPipeline(exported[0], threads=1, image_sources="objects")
    with pytest.raises(ValueError, match="paths are not allowed here"):
        closed(pictures[0], RED)


def test_a_folder_that_does_not_say_how_images_are_read_is_refused(tmp_path):
    (tmp_path / MANIFEST).write_text(json.dumps({"format": 2, "files": {}, "image": None}))
    with pytest.raises(ValueError, match="doesn't say how the image is read.*load_onnx_pipeline"):
        LightPipeline(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps({"format": 1, "files": {}}))
    with pytest.raises(ValueError, match="format 1, this version reads format 2; export the model again"):
        LightPipeline(tmp_path)

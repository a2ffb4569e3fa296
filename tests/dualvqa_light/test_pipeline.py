"""The light pipeline gives the answers of the pipeline, and needs nothing of it."""

import base64
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from helpers import COLOR, QUESTIONS, RED, ROOT
from PIL import Image
from starlette.testclient import TestClient
from transformers.pipelines.pt_utils import KeyDataset

from dualvqa.deployment.evidence_export import write_evidence
from dualvqa.deployment.onnx_pipeline import load_onnx_pipeline
from dualvqa_light import LightPipeline
from dualvqa_light.folder import MANIFEST
from dualvqa_light.server import create_app
from dualvqa_light.server_settings import ServerSettings

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
def test_columns_of_a_data_set_are_asked_row_by_row(light, exported, pictures):
    rows = Dataset.from_dict({"image": pictures, "question": [RED, COLOR, COLOR, RED]})
    expected = [exported[1](image, question) for image, question in zip(rows["image"], rows["question"])]
    for columns in ((rows["image"], rows["question"]), (KeyDataset(rows, "image"), KeyDataset(rows, "question"))):
        for pipe in (light, exported[1]):
            found = pipe(*columns)
            assert not isinstance(found, list)
            near(list(found), expected)
    for pipe in (light, exported[1]):
        near(list(pipe(rows["image"], RED)), light(pictures, RED))
        near(pipe(pictures[0], rows["question"]), light(pictures[0], list(rows["question"])))
        with pytest.raises(ValueError, match="as many images as questions, found 4 and 2"):
            pipe(rows["image"], rows.select([0, 1])["question"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"padding": "longest", "truncation": "only_first", "timeout": 5},
        {"batch_size": 3, "num_workers": 2},
        {"top_k": None, "batch_size": None, "num_workers": None, "evidence": None},
    ],
)
def test_options_of_the_pipeline_are_taken_as_there(light, exported, pictures, options):
    near(light(pictures, QUESTIONS, **options), exported[1](pictures, QUESTIONS, **options))


@pytest.mark.slow
def test_images_are_read_by_threads_and_a_bad_one_is_told_where_it_stands(light, pictures):
    threads, read = set(), light.read

    class Seen(LightPipeline):
        def __init__(self):
            self.__dict__.update(light.__dict__)

        def read(self, row, options):
            threads.add(threading.current_thread().name)
            return read(row, options)

    stream = Seen()(({"image": image, "question": RED} for image in [*pictures, "gone.png"]), num_workers=2)
    near([next(stream) for _ in pictures], light(pictures, RED))
    with pytest.raises(ValueError, match="gone.png"):
        next(stream)
    assert threads and all(name.startswith("dualvqa-read") for name in threads)


@pytest.mark.slow
def test_the_examples_that_spoke_for_an_answer_are_those_of_the_pipeline(with_texts, exported, pictures):
    options = {"evidence": 3, "top_k": 3, "batch_size": 2}
    expected = exported[1](pictures, QUESTIONS, **options)
    shown = [item["evidence"] for best in expected for item in best]
    assert all(shown) and {len(examples) for examples in shown} > {1}
    for pipe in (LightPipeline(with_texts, threads=1), load_onnx_pipeline(with_texts, threads=1)):
        found = pipe(pictures, QUESTIONS, **options)
        near([[without(item) for item in best] for best in found], [[without(item) for item in b] for b in expected])
        for one, other in zip([item["evidence"] for best in found for item in best], shown, strict=True):
            assert [{**example, "similarity": 0, "weight": 0} for example in one] == [
                {**example, "similarity": 0, "weight": 0} for example in other
            ]
            for name in ("similarity", "weight"):
                assert [e[name] for e in one] == pytest.approx([e[name] for e in other], abs=5e-3)
        assert len(pipe.evidence if isinstance(pipe, LightPipeline) else pipe.memory) == 7
    with pytest.raises(ValueError, match="can't be taught"):
        load_onnx_pipeline(with_texts, threads=1).memory.add([pictures[0]], [RED], ["no"])


@pytest.mark.slow
def test_the_server_shows_the_same_examples_where_the_folder_has_their_texts(with_texts, pictures):
    image = base64.b64encode(Path(pictures[0]).read_bytes()).decode()
    asked = {"image": image, "question": QUESTIONS, "parameters": {"evidence": 2, "top_k": 2}}
    with TestClient(create_app(with_texts, ServerSettings(threads=1))) as client:
        found = client.post("/answer", json=asked).json()
        assert all(
            "evidence" not in item for item in client.post("/answer", json={**asked, "parameters": {}}).json()[0]
        )
    expected = LightPipeline(with_texts, threads=1)(pictures[0], QUESTIONS, evidence=2, top_k=2)
    assert found == json.loads(json.dumps(expected)) and any(item["evidence"] for best in found for item in best)


def without(item):
    return {name: value for name, value in item.items() if name != "evidence"}


@pytest.mark.slow
def test_evidence_needs_its_texts_and_damaged_ones_are_told(light, with_texts, pictures, tmp_path):
    with pytest.raises(ValueError, match="this folder has none: export a model with a memory and its texts, with --ev"):
        light(pictures[0], RED, evidence=1)
    with pytest.raises(ValueError, match="evidence must be a whole number from 1"):
        light(pictures[0], RED, evidence=0)
    folder = shutil.copytree(with_texts, tmp_path / "damaged")
    write_evidence(['{"image": "a.png"}'], folder)
    with pytest.raises(
        ValueError, match=r"evidence.jsonl is damaged \(KeyError\('question'\)\); export the model again"
    ):
        LightPipeline(folder)
    (folder / "evidence.jsonl").write_text("")
    with pytest.raises(ValueError, match="evidence.jsonl is not the file that was exported"):
        LightPipeline(folder)


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


@pytest.mark.slow
def test_each_row_may_have_a_group_of_its_own(light, pictures, monkeypatch):
    organs = {"by": "organ", "groups": {"HEAD": {"threshold": 0.0}, "CHEST": None}}
    monkeypatch.setattr(light.decoder, "calibration", {"abstention": organs})
    row = {"image": pictures[0], "question": RED}
    rows = [{**row, "group": "HEAD"}, {**row, "question": [RED, COLOR], "group": ["CHEST", "HEAD"]}, row]
    one, (two, three), four = light(rows, batch_size=2)
    assert [best[0]["answer"] is not None for best in (one, two, three, four)] == [True, False, True, False]
    with pytest.raises(ValueError, match="group must be that of all questions; to ask about several, give rows"):
        light(pictures[0], [RED, COLOR], group=["HEAD", "CHEST"])

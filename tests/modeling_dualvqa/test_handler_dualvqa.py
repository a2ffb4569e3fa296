"""What Inference Endpoints call: JSON in, the pipeline's answers out."""

import copy
import json

import pytest
import transformers
from helpers import COLOR, RED
from serving_helpers import base64_of, picture

from modeling_dualvqa import DualVQAPipeline
from modeling_dualvqa.handler_dualvqa import EndpointHandler, allowed

IMAGE = base64_of(picture())
ROW = {"image": IMAGE, "question": RED}


@pytest.fixture(scope="module")
def pipe(tiny_model, new_processor):
    return DualVQAPipeline(tiny_model(), new_processor(), image_sources=allowed(""))


@pytest.fixture(scope="module")
def handler(pipe):
    return EndpointHandler(pipe)


def test_inputs_and_parameters_become_the_pipelines_answers_as_json(handler, pipe):
    data = {"inputs": {"image": IMAGE, "question": [RED, COLOR]}, "parameters": {"top_k": 2, "abstain": None}}
    found = handler(json.loads(json.dumps(data)))
    assert found == pipe(IMAGE, [RED, COLOR], top_k=2) and json.loads(json.dumps(found)) == found
    assert handler({"inputs": {**ROW, "image": f"data:image/png;base64,{IMAGE}"}}) == pipe(IMAGE, RED)


def test_evidence_comes_with_the_answers_where_texts_are_kept_and_is_refused_elsewhere(
    handler, taught_model, new_processor
):
    model, processor = copy.deepcopy(taught_model[0]), new_processor()
    processor.memory_answers = taught_model[1]
    pipe, data = DualVQAPipeline(model, processor), {"inputs": ROW, "parameters": {"evidence": 2, "top_k": 3}}
    found = json.loads(json.dumps(EndpointHandler(pipe)(data)))
    assert found == pipe(IMAGE, RED, evidence=2, top_k=3)
    spoke = [example for answer in found for example in answer["evidence"]]
    assert spoke and all(example.keys() >= {"image", "question", "answer", "similarity"} for example in spoke)
    with pytest.raises(ValueError, match="evidence=2 asks for .* this model has no memory"):
        handler(data)
    model.memory.texts = None
    with pytest.raises(ValueError, match="this model has a memory without texts"):
        EndpointHandler(pipe)(data)
    assert "a memory without texts" in EndpointHandler(pipe)({**data, "inputs": [ROW]})[0]["error"]


def test_the_question_may_stand_beside_the_image_as_huggingface_hubs_client_sends_it(handler, pipe):
    assert handler({"inputs": IMAGE, "parameters": {}, "question": RED, "image": IMAGE}) == pipe(IMAGE, RED)
    assert handler({"inputs": IMAGE, "question": RED}) == pipe(IMAGE, RED)


def test_of_several_inputs_one_that_cannot_be_answered_fails_alone(handler, pipe):
    rows = [ROW, {**ROW, "question": ""}, {**ROW, "image": "/etc/passwd"}, {**ROW, "question": [COLOR]}]
    good, empty, path, several = handler({"inputs": rows})
    assert good == pipe(IMAGE, RED) and several == pipe(IMAGE, [COLOR])
    assert "expected a question" in empty["error"] and "paths are not allowed" in path["error"]
    assert handler({"inputs": []}) == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "found a list"),
        ({}, "expected a question as text, found None|found None"),
        ({"inputs": "x"}, "paths are not allowed|found None"),
        ({"inputs": {"image": IMAGE}}, r"found \['image'\] as inputs"),
        ({"inputs": [IMAGE]}, "found str as inputs"),
        ({"inputs": ROW, "parameters": [1]}, "found a list as parameters"),
        ({"inputs": ROW, "parameters": {"num_workers": 4}}, "may have top_k, .* found 'num_workers'"),
        ({"inputs": ROW, "parameters": {"top_k": 0}}, "top_k must be a whole number from 1"),
        ({"inputs": {**ROW, "image": "http://127.0.0.1/a"}}, "URLs are not allowed here"),
    ],
)
def test_anything_else_is_a_valueerror_that_says_what_was_expected(handler, data, said):
    with pytest.raises(ValueError, match=said):
        handler(data)


@pytest.mark.parametrize(
    ("hosts", "expected"), [(None, []), ("a.org, b.org:80,", ["a.org", "b.org:80"]), ("*", None), ("", [])]
)
def test_urls_are_opened_where_the_environment_allows_them(monkeypatch, hosts, expected):
    made = []
    monkeypatch.setattr(transformers, "pipeline", lambda task, **options: made.append(options))
    monkeypatch.delenv("DUALVQA_ALLOW_HOSTS", raising=False)
    if hosts is not None:
        monkeypatch.setenv("DUALVQA_ALLOW_HOSTS", hosts)
    EndpointHandler("folder")
    assert made[0]["image_sources"] == {"folders": [], "hosts": expected} and made[0]["model"] == "folder"
    EndpointHandler("folder", image_sources="objects")
    assert made[1]["image_sources"] == "objects"

"""The page in Chromium: its answers are Python's, and it goes on after whatever it is given."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from benchmarks.chromium import Network, run
from dualvqa_light import LightPipeline

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_its_answers_are_those_of_the_light_runtime(sites, quantization):
    site = sites[quantization]
    names, questions = (json.loads((site / f"{name}.json").read_text()) for name in ("pictures", "questions"))
    pipe = LightPipeline(site / "model", threads=1)
    whole = Tokenizer.from_file(str(site / "model/tokenizer.json"))
    whole.no_truncation()
    found = run(site, HERE / "answers_scenario.js")
    kinds = set()
    for name, one in zip(names, found, strict=True):
        assert "error" not in one, (name, one)
        for question, row in zip(questions, one["rows"], strict=True):
            (best,) = pipe(image=str(site / "pictures" / name), question=[question], top_k=3)
            place = f"{name} {question[:60]}"
            assert [a["answer"] for a in row["answers"]] == [a.get("best_guess", a["answer"]) for a in best], place
            assert [a["score"] for a in row["answers"]] == pytest.approx([a["score"] for a in best], abs=1e-3), place
            assert row["questionType"] == best[0]["question_type"], place
            assert row["unanswered"] == (best[0]["answer"] is None), place
            assert row["unfamiliar"] == best[0].get("unfamiliar"), place
            assert row["cut"] == (len(whole.encode(question).ids) > 16), place
            kinds.add((row["questionType"], row["unfamiliar"] is not None))
    if quantization is None:  # rounded to 8 bits, a model of random weights may take one head for all
        assert {kind for kind, _ in kinds} == {"binary", "open_ended"} and {kind for _, kind in kinds} == {True, False}


def test_a_person_can_use_it_and_nothing_stops_it(site):
    found = run(site, HERE / "page_scenario.js")
    assert found["before a picture"] == "Choose a picture first."
    assert found["suggestions"] == ["what color is it?", "is it red?"]
    assert found["suggested"][0] == "is it red?"
    assert found["no question"] == "Type a question first."
    assert "it has 1,000,000 characters" in found["a million letters"]
    assert "That is not a picture" in found["text"]
    assert found["nothing"] == "That file is empty."
    assert found["deep grey"] == ["", 1]
    assert "9000 × 9000 pixels, more than this page reads" in found["bomb"]
    assert found["answers after all that"] == 3
    assert found["answers about another picture"] == 0
    assert found["dropped"] == found["pasted"] == "shown"
    assert found["unsure"] == "Not sure enough to answer" and found["guess"].startswith("Its best guess: ")
    assert found["unfamiliar"] == "The question is unlike what this model learned from: don't rely on the answer."
    assert found["foreignIsUnsure"]
    assert found["unnamed"] == []
    assert found["width at 390 px"] <= 390


def test_it_answers_without_a_network_once_it_was_loaded(site):
    found = run(site, HERE / "offline_scenario.js")
    assert found["online"] == found["offline"] != ""
    assert found["from the network"] == []


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ({"halved": {"vision.onnx"}}, "The network was lost while vision.onnx was downloaded"),
        ({"replaced": {"text.onnx": (404, b"", "text/plain")}}, "text.onnx is missing on this page's server"),
        ({"replaced": {"onnx.json": (200, b'{"format": 9}', "application/json")}}, "The model has format 9"),
    ],
    ids=["half a file", "no file", "another format"],
)
def test_a_model_that_does_not_come_is_told_and_can_be_tried_again(site, trouble, message):
    network = Network()
    for name, value in trouble.items():
        setattr(network, name, value)
    found = run(site, HERE / "trouble_scenario.js", network)
    assert message in found["message"]
    assert found["answer"] != ""
    assert found["heads.onnx was asked for"] <= 1  # what came whole is kept

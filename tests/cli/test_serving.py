"""The commands for models that others ask: serve, renew."""

import pytest
from helpers import SOURCES, contents
from serving_helpers import base64_of, picture
from starlette.testclient import TestClient

from dualvqa.cli import main
from dualvqa_light import serve
from dualvqa_light.server import create_app
from modeling_dualvqa import DualVQAPipeline


@pytest.fixture
def pipe(tiny_model, new_processor):
    return DualVQAPipeline(tiny_model(), new_processor())


@pytest.fixture
def folder(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def served(monkeypatch):
    """What would be served, in place of serving it."""
    found = []
    monkeypatch.setattr(serve, "serve", lambda *arguments: found.append(arguments))
    return found


@pytest.mark.slow
def test_a_saved_folder_is_served_by_its_pipeline_and_opens_nothing(folder, pipe, served):
    main(["serve", str(folder), "--max_questions", "3", "--no-access_log"])
    ((place, settings, open_folder),) = served
    with TestClient(create_app(place, settings, open_folder)) as client:
        question = {"image": base64_of(picture()), "question": "is it red?", "parameters": {"top_k": 2}}
        found = client.post("/answer", json=question)
        assert [item["answer"] for item in found.json()] == [
            item["answer"] for item in pipe(picture(), "is it red?", top_k=2)
        ]
        several = client.post("/answer", json={**question, "question": ["is it red?"] * 2}).json()
        assert [best[0]["answer"] for best in several] == [found.json()[0]["answer"]] * 2
        for place in (str(folder / "config.json"), "http://127.0.0.1/"):
            assert "allowed" in client.post("/answer", json={**question, "image": place}).json()["error"]


def test_what_is_no_model_and_flags_that_are_none_are_told(tmp_path, served):
    for arguments, said in (
        ([str(tmp_path)], "is no DualVQA model"),
        ([str(tmp_path), "--portt", "1"], "--port"),
        ([str(tmp_path), "--port", "x"], "invalid int value"),
        ([str(tmp_path), "--max_requests", "0"], "max_requests must be a number above 0"),
    ):
        with pytest.raises(SystemExit, match=said):
            main(["serve", *arguments])
    assert not served


@pytest.mark.slow
def test_an_old_folder_is_renewed_with_the_code_of_this_version(folder):
    before = contents(folder)
    (folder / "loss_dualvqa.py").write_text("# of another version\n")
    (folder / "pipeline_dualvqa.py").unlink()
    main(["renew", str(folder)])
    assert contents(folder) == before and set(SOURCES) <= set(before)

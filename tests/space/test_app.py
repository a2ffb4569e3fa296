"""The Space: a folder to push, whose page answers, says what is doubtful, and reads no files of its own disk."""

import importlib.util
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
import yaml
from helpers import ROOT
from PIL import Image

from dualvqa.cli import main
from modeling_dualvqa import DualVQAPipeline
from processing.image_loading_dualvqa import load_image


def module(folder):
    spec = importlib.util.spec_from_file_location("space_app", folder / "app.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def space(tiny_model, new_processor, tmp_path_factory):
    """What was exported, with an example; it is read only."""
    tmp_path = tmp_path_factory.mktemp("space")
    tiny_model(fusion_type="cross_attention").save_pretrained(tmp_path / "model")
    new_processor().save_pretrained(tmp_path / "model")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    rows = [{"image": "red.png", "question": question} for question in ("is it red?", "what color is it?")]
    (tmp_path / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = ["export", str(tmp_path / "model"), str(tmp_path / "space"), "--to", "space"]
    main([*line, "--examples", str(tmp_path / "examples.jsonl")])
    return tmp_path / "space"


@pytest.fixture(scope="module")
def app(space):
    """It sets Pillow's limit of pixels for a process of its own: that is undone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
        yield module(space)


def test_the_folder_says_what_the_hub_reads_and_answers_by_itself(space, app):
    front = yaml.safe_load((space / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert (front["sdk"], front["app_file"], front["title"]) == ("gradio", "app.py", "Ask model")
    assert {"torch", "transformers"} <= {line.split("==")[0] for line in open(space / "requirements.txt")}
    assert app.SETTINGS["examples"][0]["questions"] == ["is it red?", "what color is it?"]
    image = Image.open(space / app.SETTINGS["examples"][0]["image"])
    page = app.answer(pipe := app.load(), image, "is it red?\n\n what color is it?")
    assert page == app.answer(pipe, open(image.filename, "rb").read(), "is it red?\n\n what color is it?")
    assert page.count("<section>") == 2 and "<h3>what color is it?</h3>" in page and "width:" in page
    with pytest.raises(SystemExit, match="--heads is for --to onnx and web and transformers.js; found --to space"):
        main(["export", str(space / "model"), str(space / "other"), "--to", "space", "--heads", "binary"])


def test_what_is_doubtful_is_said_and_what_people_write_is_text(app):
    unsure = {"answer": None, "best_guess": "<b>red", "score": 0.3, "question_type": "open_ended"}
    unsure["unfamiliar"] = {"image": True, "question": False}
    evidence = [{"question": "<i>?", "answer": "green", "weight": 0.5, "similarity": 0.9, "image": None}]
    page = app.as_page("<script>", [{**unsure, "evidence": evidence}])
    assert "<b>Not sure.</b> The best guess is &lt;b&gt;red." in page and "This picture is unlike those" in page
    given = {**unsure, "answer": "red"}
    del given["best_guess"]
    assert "<b>Not sure.</b> The best guess is red. This picture is unlike" in app.as_page("a", [given])
    assert "<script>" not in page and "&lt;i&gt;? → green (50% of the vote)" in page


def test_what_cannot_be_asked_is_named_and_paths_are_not_read(app, tmp_path):
    pipe, image = app.load(), Image.new("RGB", (40, 30), "red")
    for picture, text, message in (
        (None, "is it red?", "Choose a picture first"),
        (image, " \n", "Ask a question"),
        (image, "a?\n" * 9, "at most 8 questions at once; these are 9"),
        (image, "a" * 501, "may have 500 letters"),
        (str(tmp_path / "red.png"), "is it red?", "paths are not allowed here"),
    ):
        with pytest.raises(ValueError, match=message):
            app.answer(pipe, picture, text)
    assert isinstance(pipe, DualVQAPipeline)
    assert len(app.explanation(pipe, image, "is it red?").axes) > 2


@pytest.mark.slow  # seconds of importing gradio
def test_an_upload_is_read_as_any_other_image_is(app, tmp_path, monkeypatch):
    gradio = pytest.importorskip("gradio", reason="gradio isn't installed: pip install dualvqa[space]")
    seen, told = [], []
    monkeypatch.setattr(gradio, "on", lambda *args, **_: told.append(args[1:3]))
    monkeypatch.setattr(app, "answer", lambda pipe, picture, text: seen.append(load_image(picture)))
    app.build(None)
    function, (picture, _) = told[0]
    made = Image.new("RGBA", (40, 30), (255, 0, 0, 0)), Image.fromarray(np.full((30, 40), 30000, np.uint16))
    for number, image in enumerate(made):
        image.save(tmp_path / f"{number}.png")
        upload = gradio.data_classes.ImageData(path=str(tmp_path / f"{number}.png"), orig_name="mine.png")
        function(picture.preprocess(upload), "is it red?")
        assert seen[number].tobytes() == load_image(tmp_path / f"{number}.png").tobytes()


def called(body):
    """What the page's API gives, without a client that would upload files first."""
    address, headers = "http://127.0.0.1:7972/gradio_api/call/answer", {"Content-Type": "application/json"}
    request = urllib.request.Request(address, json.dumps(body).encode(), headers)
    event = json.loads(urllib.request.urlopen(request, timeout=20).read())["event_id"]
    return urllib.request.urlopen(f"{address}/{event}", timeout=20).read().decode()


@pytest.mark.slow
def test_the_page_answers_over_its_api_and_takes_no_path_of_its_own_disk(space):
    pytest.importorskip("gradio", reason="gradio isn't installed: pip install dualvqa[space]")
    import gradio_client as client  # which gradio brings

    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "GRADIO_SERVER_PORT": "7972",
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
    environment |= {"HF_HUB_OFFLINE": "1", "GRADIO_TEMP_DIR": str(space / "uploads")}
    server = subprocess.Popen([sys.executable, "app.py"], cwd=space, env=environment)
    try:
        for _ in range(360):
            try:
                urllib.request.urlopen("http://127.0.0.1:7972/config", timeout=5)
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.5)
        page = client.Client("http://127.0.0.1:7972", verbose=False)
        image = client.handle_file(str(space / "examples" / "0.png"))
        assert "<h3>is it red?</h3>" in page.predict(image, "is it red?", api_name="/answer")
        with pytest.raises(Exception, match="Ask a question"):
            page.predict(image, "", api_name="/answer")
        own = {"path": str(space.parent / "red.png"), "meta": {"_type": "gradio.FileData"}}  # an image, never uploaded
        assert "event: error" in called({"data": [own, "is it red?"]})
        address = f"http://127.0.0.1:7972/gradio_api/file={space / 'model' / 'config.json'}"
        with pytest.raises(urllib.error.HTTPError, match="40[34]"):
            urllib.request.urlopen(address, timeout=5)
    finally:
        server.terminate()
        server.wait()

"""The callable for saved folders: the columns that exported ones give, and bad rows that fail alone."""

import pytest
from helpers import COLOR, RED
from PIL import Image

import dualvqa_light
from dualvqa import Answerer, DualVQAPipeline
from dualvqa.deployment import answerer
from dualvqa_light.steps import Steps


@pytest.fixture(scope="module")
def pipe(tiny_model, new_processor):
    return DualVQAPipeline(tiny_model(fusion_type="cross_attention"), new_processor(), image_sources="objects")


@pytest.fixture
def images():
    return [Image.new("RGB", (30, 20), color) for color in ("red", "green", "blue")]


def test_a_saved_folder_gives_the_answers_of_its_pipeline(pipe, images, tmp_path):
    pipe.save_pretrained(tmp_path)
    answer = Answerer(str(tmp_path), batch_size=2, options={"top_k": 2}, pipeline={"image_sources": "objects"})
    found = answer({"image": images, "question": [COLOR, RED, COLOR]})
    expected = [pipe(image, question, top_k=2) for image, question in zip(images, [COLOR, RED, COLOR])]
    assert set(found) == set(Answerer.COLUMNS) and found["error"] == [None] * 3
    assert found["answers"] == [[item["answer"] for item in best] for best in expected]
    assert found["score"] == pytest.approx([best[0]["score"] for best in expected], abs=1e-6)


def test_rows_without_image_or_question_a_bomb_and_a_path_fail_alone(pipe, images):
    bomb = Image.new("1", (20_000, 20_000))
    batch = {"image": [images[0], None, bomb, "../a.png", images[1]], "question": [RED, RED, RED, RED, ""]}
    found = Answerer(pipe)(batch)
    assert found["answer"][0] == pipe(images[0], RED)[0]["answer"] and found["error"][0] is None
    assert found["answer"][1:] == [None] * 4
    for message, expected in zip(found["error"][1:], ("found None", "max_pixels", "paths are not allowed", "''")):
        assert expected in message
    with pytest.raises(ValueError, match="found None"):
        Answerer(pipe, errors="raise")(batch)


def test_an_exported_folder_is_opened_by_the_light_pipeline(tmp_path, monkeypatch):
    (tmp_path / "onnx.json").write_text("{}")
    monkeypatch.setattr(dualvqa_light, "LightPipeline", lambda folder, **options: (folder, options))
    assert answerer.open_pipeline(str(tmp_path), image_sources="any") == (
        str(tmp_path),
        {"threads": None, "image_sources": "any"},
    )


def test_both_steps_have_the_options_of_a_call(pipe, images):
    steps, options = Steps(pipe), {"top_k": 3, "question_type": "open_ended", "truncation": False}
    item = steps.read({"image": images[0], "question": [COLOR, RED]}, options)
    (found,) = steps.answer([item], options)
    assert [len(best) for best in found] == [3, 3]
    with pytest.raises(ValueError, match="at most 16 tokens"):
        steps.read({"image": images[0], "question": "is it red? " * 20}, options)

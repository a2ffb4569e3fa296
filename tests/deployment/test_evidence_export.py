"""dualvqa export --evidence writes texts only where they are asked for and there are some."""

import json

import pytest

from dualvqa.cli import main
from dualvqa.deployment import onnx_export
from dualvqa.deployment.evidence_export import EVIDENCE, read_evidence, without_evidence, write_evidence
from dualvqa_light.folder import FORMAT, MANIFEST, checked_files
from modeling_dualvqa import DualVQAPipeline


@pytest.fixture
def saved(tiny_model, new_processor, tmp_path):
    """Saves the model that a function has had its way with."""

    def save(change=lambda pipe: None):
        pipe = DualVQAPipeline(tiny_model(), new_processor())
        change(pipe)
        pipe.save_pretrained(tmp_path / "saved")
        return str(tmp_path / "saved")

    return save


def taught(pipe, image_folder):
    images = [str(image_folder / f"{number}.png") for number in (0, 1)]
    pipe.memory.build(images * 2, ["is it red?"] * 2 + ["what color is it?"] * 2, ["yes", "no", "red", "mauve"])


@pytest.mark.slow
def test_the_flag_is_refused_before_anything_is_exported_where_there_are_no_texts(
    saved, image_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(onnx_export, "export_onnx", lambda *_, **__: pytest.fail("exported"))
    folder = saved()
    with pytest.raises(SystemExit, match="has no memory: train it with --memory"):
        main(["export", folder, str(tmp_path / "out"), "--evidence"])
    with pytest.raises(SystemExit, match="--evidence is for --to onnx; found --to web"):
        main(["export", folder, str(tmp_path / "out"), "--evidence", "--to", "web"])

    def without_texts(pipe):
        taught(pipe, image_folder)
        pipe.model.memory.texts = None

    with pytest.raises(SystemExit, match="has a memory without texts"):
        main(["export", saved(without_texts), str(tmp_path / "out"), "--evidence"])


def test_every_example_is_a_line_with_what_its_answer_means(saved, image_folder, tmp_path):
    lines = read_evidence(saved(lambda pipe: taught(pipe, image_folder)))
    rows = [json.loads(line) for line in lines]
    assert [(row["question_type"], row["index"], row["answer"]) for row in rows] == [
        ("binary", 1, "yes"),
        ("binary", 0, "no"),
        ("open_ended", 0, "red"),
        ("open_ended", 3, "mauve"),  # behind the vocabulary's three
    ]
    assert rows[1]["image"].endswith("1.png") and rows[1]["question"] == "is it red?"
    (tmp_path / "heads.onnx").write_bytes(b"")
    (tmp_path / MANIFEST).write_text(json.dumps({"format": FORMAT, "files": {}}))
    write_evidence(lines, tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert manifest["evidence"] == EVIDENCE and EVIDENCE in manifest["files"]
    without_evidence(tmp_path)
    assert not (tmp_path / EVIDENCE).exists()
    with pytest.raises(ValueError, match="names no ONNX file"):
        checked_files(tmp_path)

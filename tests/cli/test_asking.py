"""The commands that load a saved model and work with it."""

import json
import re

import pytest
from PIL import Image

from dualvqa.cli import main


@pytest.fixture
def saved(tiny_model, processor, tmp_path):
    """Folder and image."""
    tiny_model(fusion_type="cross_attention").save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    return [str(tmp_path / "model"), str(tmp_path / "red.png")]


@pytest.mark.slow
def test_questions_about_an_image_are_answered(saved, capsys):
    main(["ask", *saved, "what color is it?", "is it red?"])
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"what color is it\?  (yes|no|red|green|blue)  \d+\.\d%", first)
    assert second.startswith("is it red?         ")
    flags = ["--top_k", "2", "--question_type", "open_ended", "--json"]
    main(["ask", *saved, "what color is it?", *flags])
    found = json.loads(capsys.readouterr().out)
    assert found["question"] == "what color is it?" and len(found["answers"]) == 2
    assert found["answers"][0]["score"] >= found["answers"][1]["score"]
    assert {answer["question_type"] for answer in found["answers"]} == {"open_ended"}


def test_what_is_unsure_is_said_in_words_with_the_guess_beside(monkeypatch, tmp_path, capsys):
    """The pipeline in its place gives what the processor gives below a threshold, and with a coverage."""
    unsure = [{"answer": None, "best_guess": "red", "score": 0.31, "question_type": "open_ended"}]
    both = [{"answer": a, "score": 0.5, "question_type": "binary", "coverage": 0.9} for a in ("no", "yes")]
    alone = [{"answer": "red", "score": 0.3, "question_type": "open_ended", "coverage": None}]
    given = []

    def pipe(image, questions, **options):
        given.append(options)
        return [unsure] if options["coverage"] is None else [both, both[:1], alone]

    monkeypatch.setattr("dualvqa.cli.asking.open_folder", lambda folder: pipe)
    (tmp_path / "config.json").write_text('{"model_type": "dualvqa"}')
    (tmp_path / "red.png").write_bytes(b"")
    asked = ["ask", str(tmp_path), str(tmp_path / "red.png")]
    main([*asked, "a?"])
    assert capsys.readouterr().out == "a?  not sure; best guess: red  31.0%\n"
    main([*asked, "a?", "b?", "c?", "--coverage", "0.9", "--group", "HEAD"])
    said = capsys.readouterr().out.splitlines()
    assert said[2].strip() == "(one of these 2 is right in at least 90% of cases)"
    assert said[4].strip() == "(it is right in at least 90% of cases)" and "no set can be promised" in said[6]
    assert (given[1]["coverage"], given[1]["group"]) == (0.9, "HEAD")
    both[0]["unfamiliar"] = {"image": True, "question": False}
    main([*asked, "a?", "b?", "c?", "--coverage", "0.9"])
    assert capsys.readouterr().out.splitlines()[2].strip().startswith("(no promise: it is for what is like the data")
    with pytest.raises(SystemExit, match="question 2 of 3 is empty; nothing was asked"):
        main([*asked, "a?", " ", "c?"])
    assert len(given) == 3


def test_the_examples_that_spoke_for_an_answer_stand_under_it(monkeypatch, tmp_path, capsys):
    one = {"image": "a.png", "question": "is it a dot?", "answer": "yes", "similarity": 1.7199, "weight": 0.4}
    nameless = {**one, "image": "", "question": "a dot?", "similarity": 0.5}
    yes = {"answer": "yes", "score": 0.9, "question_type": "binary", "evidence": [one, nameless]}
    no = {**yes, "answer": "no", "score": 0.1, "evidence": []}
    monkeypatch.setattr(
        "dualvqa.cli.asking.open_folder", lambda folder: lambda *_, **given: [[yes, no][: given["top_k"]]]
    )
    (tmp_path / "onnx.json").write_text("{}")
    (tmp_path / "red.png").write_bytes(b"")
    asked = ["ask", str(tmp_path), str(tmp_path / "red.png"), "dot?", "--evidence", "2"]
    main([*asked, "--top_k", "2"])
    assert capsys.readouterr().out.splitlines() == [
        "dot?  yes  90.0%",
        "        from the memory: 'is it a dot?' yes (a.png, similarity 1.72)",
        "        from the memory: 'a dot?' yes (an image without a name, similarity 0.50)",
        "      no  10.0%",
        "        nothing in the memory spoke for it",
    ]
    main([*asked, "--json"])
    assert json.loads(capsys.readouterr().out)["answers"] == [yes]
    with pytest.raises(SystemExit, match="--evidence must be a whole number, at least 1; found 0"):
        main([*asked[:-1], "0"])


def test_evidence_that_a_saved_model_cannot_have_is_refused(saved):
    with pytest.raises(SystemExit, match="evidence=3 asks for .* this model has no memory: give it one with texts"):
        main(["ask", *saved, "is it red?", "--evidence", "3"])


@pytest.mark.slow
def test_an_explanation_is_drawn_and_the_answer_said(saved, tmp_path, capsys):
    drawn = tmp_path / "drawn.png"
    main(["explain", *saved, "what color is it?", "--answer", "blue", "--output", str(drawn)])
    assert capsys.readouterr().out.startswith("blue (") and drawn.stat().st_size > 10_000


@pytest.mark.slow
def test_what_cannot_be_explained_is_named(saved, tmp_path):
    drawn = tmp_path / "drawn.png"
    with pytest.raises(SystemExit, match="'bleu' is none of .* did you mean blue"):
        main(["explain", *saved, "what color is it?", "--answer", "bleu", "--output", str(drawn)])
    (tmp_path / "red.png").write_bytes(b"no image")
    with pytest.raises(SystemExit, match="expected a readable image at .*red.png"):
        main(["explain", *saved, "what color is it?", "--output", str(drawn)])
    assert not drawn.exists()

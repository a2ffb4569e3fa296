"""`dualvqa teach`: a saved model learns answers without training, and forgets them again."""

import json

import pytest
from helpers import write_jsonl
from PIL import Image

from dualvqa.cli import main
from dualvqa.training.building import load_model
from modeling_dualvqa import DualVQAPipeline


@pytest.fixture
def saved(tiny_model, processor, tmp_path):
    """The folder of a model with a memory of two questions, beside two images."""
    for name, color in (("red", "red"), ("sky", "blue")):
        Image.new("RGB", (40, 30), color).resize((40, 31)).save(tmp_path / f"{name}.png")
    pipe = DualVQAPipeline(tiny_model(fusion_type="cross_attention"), processor)
    paths = [str(tmp_path / "red.png"), str(tmp_path / "sky.png")]
    pipe.memory.build(paths, ["what color is it?", "is it red?"], ["red", "no"])
    pipe.model.save_pretrained(tmp_path / "model")
    pipe.processor.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def asked(folder, image, question):
    return DualVQAPipeline(*load_model(folder))(str(image), question)[0]["answer"]


@pytest.mark.slow
def test_a_new_answer_is_taught_said_and_taken_out_again(saved, tmp_path, capsys):
    question = "what color has the sky?"
    file = write_jsonl(tmp_path / "new.jsonl", [{"image": "sky.png", "question": question, "answer": "azure"}])
    main(["teach", str(saved), file])
    said = capsys.readouterr().out
    assert said.startswith("Taught 1 answers, 0 of them in place of others")
    assert "New answers, which no head knows: azure. The memory has 3 examples." in said and str(saved) in said
    assert asked(saved, tmp_path / "sky.png", question) == "azure"
    lesson = load_model(saved)[0].memory.texts[-1]
    assert lesson == {"image": "sky.png", "question": question, "answer": "azure"}  # evidence tells of no folders
    write_jsonl(tmp_path / "new.jsonl", [{"image": "sky.png", "question": question, "answer": ["blue", "blue", "red"]}])
    main(["teach", str(saved), file, "--output_dir", str(tmp_path / "other")])
    assert "Taught 1 answers, 1 of them in place of others" in capsys.readouterr().out
    assert asked(tmp_path / "other", tmp_path / "sky.png", question) == "blue"
    assert asked(saved, tmp_path / "sky.png", question) == "azure"
    main(["teach", str(saved), file, "--remove"])
    assert "Removed 1 taught answers and 1 answers that nothing else has. The memory has 2" in capsys.readouterr().out
    assert load_model(saved)[1].memory_answers == [] and len(load_model(saved)[0].memory) == 2


@pytest.mark.slow
def test_a_corrected_training_example_is_hidden(saved, tmp_path, capsys):
    config = json.loads((saved / "config.json").read_text())
    config["model_card"] = {**(config["model_card"] or {}), "columns": {"question": "ask"}}
    (saved / "config.json").write_text(json.dumps(config))
    (tmp_path / "new.csv").write_text("pic;ask;Antwort\nred.png;what color is it?;green\n")  # the folder knows of "ask"
    main(["teach", str(saved), str(tmp_path / "new.csv"), "--image_column", "pic"])
    assert "1 training examples of the same question and image are hidden" in capsys.readouterr().out
    assert asked(saved, tmp_path / "red.png", "what color is it?") == "green"


@pytest.mark.slow
def test_what_cannot_be_taught_is_named_and_the_model_stays(saved, tmp_path, tiny_model, processor):
    before = (saved / "model.safetensors").read_bytes()
    file = write_jsonl(tmp_path / "new.jsonl", [{"image": "sky.png", "question": "where?", "answer": None}])
    with pytest.raises(SystemExit, match="no answer"):
        main(["teach", str(saved), file])
    with pytest.raises(SystemExit, match="no column 'pic' .* --image_column"):
        main(["teach", str(saved), file, "--image_column", "pic"])
    with pytest.raises(SystemExit, match="1 of 1 questions were never taught, first 'where"):
        main(["teach", str(saved), file, "--remove"])
    with pytest.raises(SystemExit, match="there is no file .*none.jsonl with what is to be taught"):
        main(["teach", str(saved), str(tmp_path / "none.jsonl")])
    with pytest.raises(SystemExit, match="someone/model is on the Hub: give --output_dir"):
        main(["teach", "someone/model", file])
    assert (saved / "model.safetensors").read_bytes() == before
    tiny_model().save_pretrained(tmp_path / "plain")
    processor.save_pretrained(tmp_path / "plain")
    write_jsonl(tmp_path / "new.jsonl", [{"image": "sky.png", "question": "where?", "answer": "up"}])
    with pytest.raises(SystemExit, match="this model has no memory that could be taught"):
        main(["teach", str(tmp_path / "plain"), file])


def test_rows_that_contradict_each_other_replace_no_earlier_lesson(saved, tmp_path, capsys, caplog):
    rows = [{"image": "sky.png", "question": "is it red?", "answer": answer} for answer in ("yes", "no")]
    main(["teach", str(saved), write_jsonl(tmp_path / "new.jsonl", rows)])
    said = capsys.readouterr().out
    assert said.startswith("Taught 1 answers, 0 of them in place of others that were taught. 1 rows gave way to later")
    assert "1 of 2 lessons are contradicted by a later one" in caplog.text


def test_a_row_that_cannot_be_used_is_refused_and_left_out_where_the_error_says_how(saved, tmp_path, capsys, caplog):
    rows = [{"image": "sky.png", "question": "is it red?", "answer": answer} for answer in ("", "yes")]
    command = ["teach", str(saved), write_jsonl(tmp_path / "new.jsonl", rows)]
    with pytest.raises(SystemExit, match="line 1 .*: no answer. Mend it, .* --on_bad_example skip"):
        main(command)
    main([*command, "--on_bad_example", "skip"])
    assert "Taught 1 answers, 0 of them in place of others" in capsys.readouterr().out
    assert "left out: " in caplog.text and "new.jsonl, line 1 (" in caplog.text and "): no answer" in caplog.text


def test_evidence_without_the_texts_that_were_damaged_says_so(saved, tmp_path, caplog):
    (saved / "memory_examples.jsonl").write_text("{broken\n")
    with pytest.raises(
        SystemExit, match="has a memory without texts: put its own memory_examples.jsonl back, or"
    ) as no:
        main(["ask", str(saved), str(tmp_path / "sky.png"), "is it red?", "--evidence", "2"])
    assert "memory_examples.jsonl is not the memory's" in caplog.text and "pipe." not in str(no.value)


@pytest.mark.slow
def test_explain_shows_what_the_memory_has_for_the_answer(saved, tmp_path, capsys):
    drawn = str(tmp_path / "drawn.png")
    main(["explain", str(saved), str(tmp_path / "red.png"), "what color is it?", "--answer", "red", "--output", drawn])
    first, *others = capsys.readouterr().out.splitlines()
    remembered = next(line for line in others if "from the memory" in line)
    assert first.startswith("red (") and "'what color is it?' red" in remembered and "red.png" in remembered

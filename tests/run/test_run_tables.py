"""Tables that people have, from training to predictions."""

import json
import logging

import openpyxl
import pytest
from helpers import lines_of, write_jsonl

from dualvqa.cli import main
from dualvqa.run import main as run_vqa
from dualvqa.training.record import remembered_columns


def german(folder):
    """The rows of train.jsonl with German columns and umlauts, as a German spreadsheet saves CSV."""
    rows = lines_of(folder / "train.jsonl")
    answers = {"red": "rot", "green": "grün", "blue": "blau"}
    cells = [[row["image"], f"{row['question']}, Größe?", answers.get(row["answer"], row["answer"])] for row in rows]
    lines = [";".join(cells) for cells in [["Bild", "Frage", "Antwort"], *cells]]
    (folder / "train.csv").write_bytes("\r\n".join(lines).encode("cp1252"))
    return str(folder / "train.csv")


@pytest.mark.slow
def test_a_spreadsheet_is_trained_on_and_another_answered_with_the_same_columns(recipe, image_folder, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    out = tmp_path / "out"
    main(["train", recipe(train_file=german(image_folder))])
    assert "cp1252" in caplog.text and "image is the column 'Bild' (a usual name; --image_column" in caplog.text
    card = json.loads((out / "config.json").read_text())["model_card"]
    assert card["columns"] == {"image": "Bild", "question": "Frage", "answer": "Antwort"}

    book = openpyxl.Workbook()
    for row in [["question", "Frage", "Bild", "Größe"], ["not this", "what color is it?", "0.png", 1.5]]:
        book.active.append(row)
    book.save(tmp_path / "test.xlsx")
    flags = ["--test_file", str(tmp_path / "test.xlsx"), "--image_dir", str(image_folder), "--use_cpu"]
    main(["predict", str(out), *flags])
    (line,) = lines_of(out / "prediction" / "predictions.jsonl")
    assert line["answer"] in ("yes", "no", "rot", "grün", "blau") and line["Größe"] == 1.5
    assert "question is the column 'Frage' (as in the training of the saved model)" in caplog.text
    with pytest.raises(SystemExit, match="no column 'Satz'"):
        main(["predict", str(out), *flags, "--question_column", "Satz"])


def test_a_run_lists_all_bad_rows_in_a_file_where_they_are_many(recipe, image_folder, tmp_path):
    rows = [{"image": f"gone/{n}.png", "question": "q?", "answer": "red"} for n in range(11)]
    path = write_jsonl(image_folder / "gone.jsonl", rows)
    with pytest.raises(SystemExit, match="All 11 of them are listed in .*out/bad_examples.jsonl"):
        run_vqa.main([recipe(train_file=path)])
    listed = lines_of(tmp_path / "out" / "bad_examples.jsonl")
    assert [row["place"] for row in listed] == [f"line {n}" for n in range(1, 12)]
    assert all("unreadable image" in row["problem"] for row in listed)


def test_ambiguous_tables_are_refused_before_anything_is_trained(recipe, image_folder, tmp_path):
    (image_folder / "a.csv").write_text("image;a,b;answer\n0.png;c,d;red\n")
    with pytest.raises(SystemExit, match="give the right one, such as --csv_separator comma"):
        run_vqa.main([recipe(train_file=str(image_folder / "a.csv"))])
    (image_folder / "b.csv").write_bytes("image,answer\n0.png,grün\n".encode() + "1.png,grün\n".encode("cp1252"))
    with pytest.raises(SystemExit, match="two encodings.*--csv_encoding"):
        run_vqa.main([recipe(train_file=str(image_folder / "b.csv"))])
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_record_remembers_no_columns():
    assert remembered_columns(None) is None

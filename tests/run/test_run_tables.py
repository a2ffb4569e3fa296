"""Tables that people have, from training to predictions."""

import json
import logging
import shutil
import tarfile

import openpyxl
import pytest
from datasets import Dataset
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
    assert (
        "cp1252" in caplog.text
        and "by their usual names: image 'Bild', question 'Frage', answer 'Antwort'" in caplog.text
    )
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
    assert "as in the training of the saved model: image 'Bild', question 'Frage' (--image_column" in caplog.text
    with pytest.raises(SystemExit, match="no column 'Satz'"):
        main(["predict", str(out), *flags, "--question_column", "Satz"])


def as_table(rows, separator, encoding):
    lines = [separator.join(map(str, cells)) for cells in [rows[0], *map(dict.values, rows)]]
    return "\n".join(lines).encode(encoding)


def save(folder, kind, rows):
    """Rows in a file of some format; gives its path."""
    path = folder / f"{kind}.{kind.rpartition('_')[2]}"
    if kind in TEXTS:
        path.write_bytes(TEXTS[kind](rows))
    elif kind == "parquet":
        Dataset.from_list(rows).to_parquet(path)
    elif kind == "xlsx":
        book = openpyxl.Workbook()
        for cells in [list(rows[0]), *(list(row.values()) for row in rows)]:
            book.active.append(cells)
        book.save(path)
    elif kind == "tar":
        with tarfile.open(path, "w") as file:
            for number, row in enumerate(rows):
                (folder / "fields.json").write_text(json.dumps(row))
                file.add(folder / row["image"], f"{number}.png")
                file.add(folder / "fields.json", f"{number}.json")
    return str(path)


TEXTS = {
    "csv": lambda rows: as_table(rows, ",", "utf-8-sig"),
    "semicolon_csv": lambda rows: as_table(rows, ";", "utf-16"),
    "tsv": lambda rows: as_table(rows, "\t", "utf-8"),
    "txt": lambda rows: as_table(rows, "|", "utf-8"),
    "jsonl": lambda rows: "\n".join(map(json.dumps, rows)).encode(),
    "ndjson": lambda rows: "\n".join(map(json.dumps, rows)).encode(),
    "json": lambda rows: json.dumps(rows).encode(),
    "columns_json": lambda rows: json.dumps({name: [row[name] for row in rows] for name in rows[0]}).encode(),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*TEXTS, "xlsx", "parquet", "tar"])
def test_every_format_is_trained_on_and_answered(recipe, image_folder, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    path = save(image_folder, kind, lines_of(image_folder / "train.jsonl"))
    run = run_vqa.main([recipe(train_file=path, max_steps=1), "--do_predict", "--test_file", path])
    assert len(run.parts["train"]) == 12 and set(run.processor.answers) == {"red", "green", "blue"}
    lines = lines_of(tmp_path / "out" / "predictions.jsonl")
    assert [str(line["qid"]) for line in lines[:4]] == ["0", "-1", "2", "-1"] and len(lines) == 16


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_folder_of_images_with_a_table_is_trained_on_and_answered(recipe, image_folder, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"file_name": row.pop("image"), **row} for row in lines_of(image_folder / "train.jsonl")]
    for part in ("train", "test"):
        shutil.copytree(image_folder, tmp_path / "set" / part, ignore=shutil.ignore_patterns("*.jsonl", "set"))
        (tmp_path / "set" / part / f"metadata.{kind}").write_bytes(TEXTS[kind](rows))
    settings = {"train_file": None, "image_dir": None, "dataset_name": str(tmp_path / "set"), "max_steps": 1}
    run_vqa.main([recipe(**settings), "--do_predict"])
    lines = lines_of(tmp_path / "out" / "predictions.jsonl")
    assert len(lines) == 16 and lines[2]["file_name"] == "1.png"


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

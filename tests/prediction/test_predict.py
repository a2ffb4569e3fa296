"""predict: a file of questions becomes a file of answers row by row, in parts, and goes on where it stopped."""

import json
import shutil

import pandas
import pytest
import torch
from helpers import write_jsonl
from PIL import Image

from dualvqa import merge_predictions, predict
from dualvqa.prediction import outputs
from dualvqa.prediction.record import Record
from modeling_dualvqa import DualVQAPipeline
from processing import DataArguments


@pytest.fixture(scope="module")
def pipe(tiny_model, new_processor):
    return DualVQAPipeline(tiny_model(), new_processor())


@pytest.fixture
def rows(image_folder):
    """23 questions with fields of their own, several about one image behind one another."""
    asked = "is it red?", "what color is it?"
    return [
        {"image": f"{n // 3 % 8}.png", "question": asked[n % 2], "n": n, "x": n / 2, "score": "own"} for n in range(23)
    ]


@pytest.fixture
def asked(pipe, image_folder, tmp_path):
    """Predicts into a file of that name, and gives its path."""

    def ask(data, name="out.jsonl", **settings):
        args = DataArguments(image_dir=str(image_folder))
        return predict(pipe, data, tmp_path / name, args, batch_size=4, **settings)

    return ask


def lines(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]


def test_rows_keep_their_fields_and_get_the_answers_of_the_pipeline(asked, pipe, rows, image_folder):
    found = asked(write_jsonl(image_folder / "rows.jsonl", rows), top_k=2)
    assert found["rows"] == found["answered"] == 23 and found["bad"] == 0 and found["per_second"] > 0
    for row, line in zip(rows, lines(found["output"]), strict=True):
        best = pipe(str(image_folder / row["image"]), row["question"], top_k=2)
        assert (line["answer"], line["question_type"]) == (best[0]["answer"], best[0]["question_type"])
        assert line["score"] == pytest.approx(best[0]["score"], abs=1e-5) and len(line["top_k"]) == 2
        assert line["n"] == row["n"] and line["source_score"] == "own"


@pytest.mark.slow
@pytest.mark.parametrize("end", ["jsonl", "csv", "parquet"])
def test_the_parts_together_are_the_file_of_one_run(asked, rows, image_folder, tmp_path, monkeypatch, end):
    monkeypatch.setattr(outputs, "PART", 5)
    file = write_jsonl(image_folder / "rows.jsonl", rows)
    whole = asked(file, f"whole.{end}")["output"]
    for number in (2, 3, 1):
        part = asked(file, f"out.{end}", shard=f"{number}/3")
        assert part["rows"] == (8, 8, 7)[number - 1] and part["output"].endswith(f"out-{number:05}-of-00003.{end}")
        if number != 1:
            with pytest.raises(ValueError, match="of one number|is missing: run that part"):
                merge_predictions(f"{tmp_path}/out.{end}" if number == 3 else f"{tmp_path}/other.{end}")
    assert merge_predictions(f"{tmp_path}/out.{end}") == 23
    with open(whole, "rb") as one, open(tmp_path / f"out.{end}", "rb") as other:
        assert one.read() == other.read()


def test_tables_have_the_columns_of_all_rows_with_their_types(asked, rows, image_folder, monkeypatch):
    monkeypatch.setattr(outputs, "PART", 5)
    rows[-1]["late"] = [1, "a\nb"]
    rows[3]["image"] = "none.png"
    file = write_jsonl(image_folder / "rows.jsonl", rows)
    table = pandas.read_parquet(asked(file, "out.parquet")["output"])
    assert (
        table["n"].tolist() == list(range(23))
        and table["x"].dtype == float
        and {2, 3} >= set(map(len, table["top_k"].dropna()))
    )
    assert table["late"].tolist()[-1] == '[1, "a\\nb"]' and table["source_score"].tolist() == ["own"] * 23
    assert table["error"][3].startswith("line 4: ") and "none.png" in table["error"][3]
    cells = pandas.read_csv(asked(file, "out.csv")["output"])
    assert cells["answer"].isna().tolist() == [number == 3 for number in range(23)]
    assert cells["n"].tolist() == list(range(23)) and json.loads(cells["top_k"][0])[0]["answer"] == cells["answer"][0]


def test_a_bad_row_has_the_reason_and_spoils_none_beside_it(asked, rows, image_folder):
    rows[4]["image"], rows[7]["question"] = "none.png", ""
    file = write_jsonl(image_folder / "rows.jsonl", rows)
    with open(file, "a", encoding="utf-8") as text:
        text.write('{"image": "1.png"\n[1]\n{"image": "1.png", "question": "is it red?"}\n')
    found = asked(file)
    assert (found["rows"], found["bad"]) == (26, 4)
    written = lines(found["output"])
    assert [number for number, line in enumerate(written) if "error" in line] == [4, 7, 23, 24]
    assert "none.png" in written[4]["error"] and "empty question" in written[7]["error"]
    assert written[23]["error"].startswith("line 24: it is not valid JSON") and written[4]["answer"] is None
    assert written[25]["answer"]


def test_a_run_whose_first_rows_are_all_bad_writes_nothing(asked, rows, image_folder, tmp_path):
    for row in rows:
        row["image"] = "none.png"
    file = write_jsonl(image_folder / "rows.jsonl", rows)
    with pytest.raises(ValueError, match="none of the first 23 rows can be answered; the first: .*none.png"):
        asked(file)
    write_jsonl(image_folder / "rows.jsonl", [{**row, "image": "0.png"} for row in rows])
    assert not list(tmp_path.glob("out*")) and asked(file)["bad"] == 0


def test_a_shard_of_bad_rows_is_written_and_merges(asked, rows, image_folder, tmp_path, caplog):
    for row in rows[12:]:
        row["image"] = "none.png"
    file = write_jsonl(image_folder / "rows.jsonl", rows)
    whole = asked(file, "whole.jsonl")["output"]
    found = [asked(file, shard=f"{number}/2") for number in (1, 2)]
    assert [part["bad"] for part in found] == [0, 11] and "none of the first 11 rows can be answered" in caplog.text
    assert merge_predictions(f"{tmp_path}/out.jsonl") == 23
    assert (tmp_path / "out.jsonl").read_bytes() == open(whole, "rb").read()


def test_a_part_under_another_parts_name_is_not_merged(asked, rows, image_folder, tmp_path):
    file = write_jsonl(image_folder / "rows.jsonl", rows)
    one, two = (asked(file, shard=f"{number}/2")["output"] for number in (1, 2))
    for end in ("", ".record.json"):  # as a copy under a wrong name leaves them
        (tmp_path / "kept").write_bytes(open(one + end, "rb").read())
        shutil.copy(two + end, one + end)
        shutil.copy(tmp_path / "kept", two + end)
    with pytest.raises(ValueError, match="00001-of-00002.jsonl is by its record 2/2, and by its name 1/2"):
        merge_predictions(tmp_path / "out.jsonl")
    whole = asked(file, "whole.jsonl")["output"]
    for end in ("", ".record.json"):
        shutil.copy(whole + end, one + end)
    with pytest.raises(ValueError, match="is by its record no shard, and by its name 1/2"):
        merge_predictions(f"{tmp_path}/out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.slow
@pytest.mark.parametrize("end", ["jsonl", "parquet"])
def test_an_output_that_was_torn_is_refused_and_one_that_is_gone_is_asked_anew(asked, rows, image_folder, caplog, end):
    file, output = write_jsonl(image_folder / "rows.jsonl", rows), image_folder / f"out.{end}"
    for number in (1, 2):
        part = image_folder / f"out-0000{number}-of-00002.{end}"
        asked(file, f"out.{end}", shard=f"{number}/2")
    content = part.read_bytes()
    part.write_bytes(content[:-50])
    torn = f"{part.name} was changed since it was written: expected {len(content)} bytes, found {len(content) - 50}"
    with pytest.raises(ValueError, match=torn):
        merge_predictions(str(output))
    with pytest.raises(ValueError, match=torn):
        asked(file, f"out.{end}", shard="2/2")
    part.unlink()
    assert not output.exists() and asked(file, f"out.{end}", shard="2/2")["answered"] == 11
    assert "is gone, and its record has 11 rows: asking all anew" in caplog.text
    assert part.read_bytes() == content


class Stopped(Exception):
    pass


@pytest.mark.parametrize("end", ["jsonl", "csv", "parquet"])
def test_a_run_that_was_stopped_goes_on_behind_what_it_has_written(asked, rows, image_folder, monkeypatch, end):
    monkeypatch.setattr(outputs, "PART", 8)
    file = write_jsonl(image_folder / "rows.jsonl", rows)
    whole = asked(file, f"whole.{end}")["output"]
    questions, preprocess = [], DualVQAPipeline.preprocess

    def stopping(self, inputs, **options):
        questions.extend(inputs["question"])
        if len(questions) > 20:
            raise Stopped
        return preprocess(self, inputs, **options)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(DualVQAPipeline, "preprocess", stopping)
        patch.setattr("dualvqa.prediction.answering.READ_AHEAD", 1)
        asked(file, f"out.{end}")
    path = image_folder / f"out.{end}"
    if end != "parquet":
        with open(path, "ab") as torn:
            torn.write(b'{"image": "3.p')
    record = json.loads((image_folder / f"out.{end}.record.json").read_text())
    assert 0 < record["rows"] < 23 and not record["whole"]
    found = asked(file, f"out.{end}")
    assert found["rows"] == 23 and found["answered"] == 23 - record["rows"]
    assert path.read_bytes() == open(whole, "rb").read()
    assert asked(file, f"out.{end}")["answered"] == 0


@pytest.mark.parametrize("end", ["jsonl", "parquet"])
def test_a_run_that_was_stopped_before_its_record_says_whole_goes_on(asked, rows, image_folder, monkeypatch, end):
    monkeypatch.setattr(outputs, "PART", 8)
    file, add = write_jsonl(image_folder / "rows.jsonl", rows), Record.add
    whole = asked(file, f"whole.{end}")["output"]

    def stopping(self, rows, state, whole=False):
        if whole:
            raise Stopped
        add(self, rows, state)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Record, "add", stopping)
        asked(file, f"out.{end}")
    assert asked(file, f"out.{end}")["answered"] == (0 if end == "jsonl" else 7)
    assert (image_folder / f"out.{end}").read_bytes() == open(whole, "rb").read()
    assert not list(image_folder.glob("*.parts"))


def test_it_goes_on_with_the_same_model_data_and_settings_only(asked, rows, image_folder, tiny_model, processor):
    file = write_jsonl(image_folder / "rows.jsonl", rows)
    output = asked(file)["output"]
    with pytest.raises(ValueError, match=r"begun with other settings \(top_k 5 then, 2 now\)"):
        asked(file, top_k=2)
    args = DataArguments(image_dir=str(image_folder))
    torch.manual_seed(1)
    with pytest.raises(ValueError, match="begun with another model"):
        predict(DualVQAPipeline(tiny_model(), processor), file, output, args, batch_size=4)
    write_jsonl(image_folder / "rows.jsonl", rows[:-1])
    with pytest.raises(ValueError, match="begun with other data"):
        asked(file)
    (image_folder / "mine.csv").write_text("my notes")
    with pytest.raises(ValueError, match="mine.csv is there already, without its record"):
        asked(file, "mine.csv")
    with pytest.raises(ValueError, match="expected an output ending in .jsonl, .csv, .parquet; found"):
        asked(file, "mine.txt")
    with pytest.raises(ValueError, match="shard as part/parts, such as 3/16, from 1/16 to 16/16; found '0/4'"):
        asked(file, "other.jsonl", shard="0/4")


def test_first_answers_are_written_before_the_last_image_is_read(asked, rows, image_folder, monkeypatch):
    read, preprocess = [], DualVQAPipeline.preprocess

    def recording(self, inputs, **options):
        path = image_folder / "out.jsonl"
        read.append(len(lines(path)) if path.exists() else 0)
        return preprocess(self, inputs, **options)

    monkeypatch.setattr(DualVQAPipeline, "preprocess", recording)
    monkeypatch.setattr("dualvqa.prediction.answering.READ_AHEAD", 1)
    asked(write_jsonl(image_folder / "rows.jsonl", rows))
    assert read[0] == 0 and read[-1] >= 8


def test_memory_does_not_grow_with_the_rows_of_a_generator(asked, monkeypatch):
    monkeypatch.setattr("processing.row_streams.PIECE", 16)
    image, alive = Image.new("RGB", (16, 16)), []

    class Row(dict):
        alive = 0

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            Row.alive += 1
            alive.append(Row.alive)

        def __del__(self):
            Row.alive -= 1

    def made():
        return (Row(image=image, question="is it red?", n=number) for number in range(160))

    assert asked(made())["rows"] == 160 and max(alive) < 80
    with pytest.raises(ValueError, match="begun with other data .which can be read only once"):
        asked(made())
    with pytest.raises(ValueError, match="needs rows whose number is known"):
        asked(made(), "other.jsonl", shard="1/2")


@pytest.mark.parametrize("end", ["jsonl", "parquet"])
def test_a_set_of_answers_is_written_where_a_coverage_is_asked_for(pipe, asked, rows, image_folder, monkeypatch, end):
    """Of the organs one has a set of all answers, the other none; a field called coverage is kept."""
    everything = {"levels": {"0.9": 0.0}, "largest": 0.9}
    sets = {"by": "organ", "groups": {"HEAD": everything, "CHEST": None}}
    monkeypatch.setattr(pipe.processor, "calibration", {"sets": sets})
    values = ["HEAD", "CHEST"]
    rows = [{**row, "organ": values[n % 2], "coverage": "own"} for n, row in enumerate(rows[:6])]
    file = write_jsonl(image_folder / "rows.jsonl", rows)
    output = asked(file, f"sets.{end}", coverage=0.9)["output"]
    found = pandas.read_parquet(output).to_dict("records") if end == "parquet" else lines(output)
    assert [line["coverage"] == 0.9 for line in found] == [True, False] * 3
    for row, line in zip(rows, found, strict=True):
        best = pipe(str(image_folder / row["image"]), row["question"])
        assert line["source_coverage"] == "own" and line["answer"] == best[0]["answer"]
        assert len(line["top_k"]) > 1 if row["organ"] == "HEAD" else len(line["top_k"]) == 1
    with pytest.raises(ValueError, match="begun with other settings .*coverage 0.9 then"):
        asked(file, f"sets.{end}")
    with pytest.raises(ValueError, match="coverage decides how many answers are given: leave out top_k, found 2"):
        asked(file, f"sets.{end}", coverage=0.9, top_k=2)


def test_each_row_is_answered_by_the_promise_of_its_own_group(pipe, asked, rows, image_folder, monkeypatch, caplog):
    organs = {"by": "organ", "groups": {"HEAD": {"threshold": 0.0}, "CHEST": None, "1": {"threshold": 0.0}}}
    monkeypatch.setattr(pipe.processor, "calibration", {"abstention": organs})
    file = write_jsonl(image_folder / "rows.jsonl", rows)
    with pytest.raises(
        ValueError, match=r"rows.jsonl has no column organ, by which .*\(1, CHEST, HEAD\): add it, null"
    ):
        asked(file)
    values = ["HEAD", "CHEST", 1, "LEG", None]
    grouped = [{**row, "organ": values[n % 5]} for n, row in enumerate(rows)]
    found = lines(asked(write_jsonl(image_folder / "rows.jsonl", grouped), "grouped.jsonl")["output"])
    assert [line["answer"] is not None for line in found] == [n % 5 in (0, 2) for n in range(23)]
    assert sum("rows of LEG stay unanswered" in record.message for record in caplog.records) == 1

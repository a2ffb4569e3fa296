"""A report names rows as the program shows them that a person opens the file with, and as bad rows are named."""

import json
import re

import pytest
from helpers import ANSWERS, data_arguments, write_jsonl
from report_rows import random_logits

from dualvqa.reporting.compare import difference
from dualvqa.reporting.report import EvaluatedRun, write_report
from processing import DualVQAImageProcessor, DualVQAProcessor, prepare_datasets

SHEET = ["image;question;answer", *(f"{n % 4}.png;question {n + 2}?;{ANSWERS[n % 3]}" for n in range(40))]


@pytest.fixture
def reported(tokenizer, tmp_path):
    """The lines of report_rows.jsonl about a canonical part, and the page."""

    def report(rows):
        rows = rows.map(lambda row: {**row, "answer": [row["answer"]]}, keep_in_memory=True)
        processor = DualVQAProcessor(DualVQAImageProcessor(), tokenizer, ANSWERS)
        write_report(tmp_path / "out", EvaluatedRun({"test": rows}, {"test": random_logits(rows, 3)}), processor)
        lines = (tmp_path / "out" / "report_rows.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines], (tmp_path / "out" / "report.html").read_text()

    return report


def test_rows_are_those_of_the_spreadsheet_through_skipping_splitting_and_shuffling(image_folder, reported):
    lines = [*SHEET[:5], "0.png;question 6?;", "", *SHEET[5:]]  # rows 6 and 7: a bad one, and an empty one
    lines = [re.sub(r"question \d+", f"question {number}", line) for number, line in enumerate(lines, 1)]
    (image_folder / "sheet.csv").write_text("\n".join(lines))
    args = data_arguments(image_folder, train_file=str(image_folder / "sheet.csv"), on_bad_example="skip")
    parts, _, bad = prepare_datasets(args.changed(validation_fraction=0.5))
    assert [row["place"] for row in bad] == ["row 6"] and 1 < len(parts["validation"]) < 39
    found, page = reported(parts["validation"].shuffle(seed=1))
    assert all(f"{row['place']}?" == row["question"].replace("question", "row") for row in found)
    shown = re.findall(r"<p>question (\d+)\?</p>.*?<span class=\"small\">row (\d+)</span>", page, re.DOTALL)
    assert len(shown) > 3 and all(question == row for question, row in shown)


def test_lines_of_json_are_lines(image_folder, reported):
    rows = [{"image": "0.png", "question": f"line {n}?", "answer": ANSWERS[n % 3]} for n in range(1, 9)]
    path = write_jsonl(image_folder / "t.jsonl", rows)
    parts, _, _ = prepare_datasets(data_arguments(image_folder, test_file=path))
    found, _ = reported(parts["test"])
    assert [f"{row['place']}?" for row in found] == [row["question"] for row in rows]
    assert [row["row"] for row in found] == list(range(8))


def test_a_difference_between_runs_names_the_place_also_of_reports_that_have_none():
    ours = {"row": 3, "place": "question_id 77", "image": "a", "question": "q?", "references": ["red"]}
    theirs = {**ours, "question": "r?"}
    assert difference(ours, theirs, "a", "b") == "question_id 77 has the question 'q?' in a and 'r?' in b"
    del ours["place"]
    assert difference(ours, theirs, "a", "b").startswith("row 4 has")

"""dualvqa predict FOLDER DATA --output FILE, and dualvqa merge; a run that is killed goes on."""

import json
import signal

import pytest
from helpers import write_jsonl
from killed_run import predict
from processes import forked

from dualvqa.cli import main, predicting
from dualvqa.prediction.outputs import OUTPUTS


@pytest.fixture
def saved(tiny_model, processor, image_folder):
    tiny_model().save_pretrained(image_folder / "model")
    processor.save_pretrained(image_folder / "model")
    return str(image_folder / "model")


@pytest.fixture
def data(image_folder):
    rows = [{"image": f"{n % 8}.png", "question": "is it red?", "n": n} for n in range(40)]
    return write_jsonl(image_folder / "rows.jsonl", rows)


def answers(path):
    return [json.loads(line)["n"] for line in open(path, encoding="utf-8")]


def test_a_file_is_answered_in_parts_that_are_put_together(saved, data, image_folder, capsys):
    output = str(image_folder / "out.jsonl")
    line = ["predict", saved, data, "--output", output, "--image_dir", str(image_folder), "--top_k", "1"]
    for shard in ("1/2", "2/2"):
        main([*line, "--batch_size", "8", "--shard", shard])
    main(["merge", output])
    assert capsys.readouterr().out == f"{output}: 40 rows\n" and answers(output) == list(range(40))
    with pytest.raises(SystemExit, match="out.jsonl is there already"):
        main([*line])


def test_the_endings_that_are_checked_first_are_those_that_can_be_written():
    assert tuple(OUTPUTS) == predicting.OUTPUTS


@pytest.mark.parametrize(
    "words, message",
    [
        (["gone.jsonl", "--output", "out.jsonl"], "expected a file of questions, found gone.jsonl: no such file"),
        (["setup.cfg", "--output", "out.txt"], "expected --output to end in .jsonl, .csv, .parquet; found out.txt"),
        (["setup.cfg", "--output", "out.jsonl", "--shart", "1/2"], "unknown argument --shart; did you mean --shard"),
        (["README.md", "--output", "out.jsonl"], "README.md: expected a file ending in .csv"),
        (["setup.cfg", "--output", "out.jsonl", "--top_k", "0"], "top_k must be a whole number, at least 1; found 0"),
    ],
)
def test_what_cannot_be_answered_is_named(saved, words, message):
    with pytest.raises(SystemExit, match=message):
        main(["predict", saved, *words])


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_without_a_torn_line(saved, data, image_folder):
    output = image_folder / "out.jsonl"
    line = ["predict", saved, data, "--output", str(output), "--image_dir", str(image_folder), "--batch_size", "8"]
    assert forked(predict, line, 16).code == -signal.SIGKILL
    record = json.loads((image_folder / "out.jsonl.record.json").read_text())
    assert record["rows"] == 16 and output.read_text().endswith('{"image": "torn')
    main(line)
    assert answers(output) == list(range(40)) and not list(image_folder.glob("*.lock"))

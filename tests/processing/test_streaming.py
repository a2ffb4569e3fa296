import io
import json
import logging
import os

import datasets
import pandas
import pytest
from helpers import ANSWERS, TEXT
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from dualvqa.run import main as run_vqa
from processing import BadExampleError, DataArguments, StreamedRows


def png(color, side=20):
    content = io.BytesIO()
    Image.new("RGB", (side, 20), color).save(content, "png")
    return content.getvalue()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """`datasets` waits five seconds at the end of each pass, for threads of Arrow that a program's end could meet."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.05)


@pytest.fixture
def shards(tmp_path):
    """Writes so many questions, two about each image, into Parquet files; gives their pattern."""

    def write(files=4, rows=10, row_group_size=None, changes=None):
        number = 0
        for file in range(files):
            table = []
            for row in range(rows):
                color = ANSWERS[number // 2 % 3]
                image = {"bytes": png(color, 20 + number // 2), "path": None}
                yes_no = number % 2
                question = f"is it red? {number}" if yes_no else f"what color is it? {number}"
                answer = ("yes" if color == "red" else "no") if yes_no else color
                line = {"image": image, "question": question, "answer": answer, "split": "ab"[number % 2]}
                table.append({**line, **(changes or {}).get((file, row), {})})
                number += 1
            pandas.DataFrame(table).to_parquet(tmp_path / f"train-{file}.parquet", row_group_size=row_group_size)
        return str(tmp_path / "train-*.parquet")

    return write


def stream(pattern, process=0, processes=1, **fields):
    batch_size = fields.pop("batch_size", 4)
    return StreamedRows(
        DataArguments(train_file=pattern, streaming=True, **fields), process, processes, batch_size, seed=3
    )


def numbers(rows):
    return [int(row["question"].split()[-1]) for row in rows]


def test_an_epoch_has_every_row_once_in_an_order_of_its_own(shards):
    rows = stream(shards())
    first = numbers(rows)
    assert len(rows) == 40 and sorted(first) == list(range(40))
    assert first != sorted(first) and first == numbers(rows)
    rows.set_epoch(1)
    assert sorted(numbers(rows)) == list(range(40)) and numbers(rows) != first


def test_the_summary_is_that_of_all_rows(shards):
    summary = stream(shards()).summary
    assert summary.rows == 40 and len(summary.questions) == 40 and summary.images is None
    assert summary.answers == {"red": 7, "green": 7, "blue": 6, "yes": 7, "no": 13}


def test_empty_answers_beside_others_are_counted_once_in_a_stream(caplog):
    image = {"bytes": png("red"), "path": None}
    table = {"image": [image] * 3, "question": ["q?"] * 3, "answer": [["red", ""], ["red", "blue"], [None, "red"]]}
    rows = StreamedRows(DataArguments(), stream=datasets.Dataset.from_dict(table).to_iterable_dataset())
    assert len(list(rows)) == len(list(rows)) == 3
    (message,) = [text for text in caplog.messages if "empty answers" in text]
    assert "the stream: 2 empty answers in 2 of 3 questions" in message and "first are in ['red', '']" in message


@pytest.mark.parametrize("files, rows", [(4, 10), (1, 40)])
def test_processes_read_row_groups_of_their_own_and_all_of_them(shards, files, rows):
    pattern = shards(files, rows, row_group_size=10)
    parts = [numbers(stream(pattern, process, 2)) for process in (0, 1)]
    assert len(parts[0]) == len(parts[1]) == 20
    assert sorted(parts[0] + parts[1]) == list(range(40))
    for part in parts:
        assert len({number // 10 for number in part}) == 2  # two of the four row groups


def test_processes_with_files_of_different_length_have_the_same_number_of_rows(shards, tmp_path):
    pattern = shards(files=3)  # one process has two files, the other one
    parts = [numbers(stream(pattern, process, 2)) for process in (0, 1)]
    assert [len(part) for part in parts] == [15, 15]
    short = min(parts, key=lambda part: len(set(part)))
    assert len(set(short)) == 10  # it began again


@pytest.mark.parametrize("workers, rows", [(2, 10), (3, 7)])
def test_workers_share_the_rows_of_a_process(shards, workers, rows):
    part = stream(shards(rows=rows))
    loader = DataLoader(part, 4, num_workers=workers, collate_fn=numbers)
    batches = list(loader)
    assert len(batches) == len(loader) and sum(map(len, batches)) == len(part) == 4 * rows
    assert [len(batch) for batch in batches if len(batch) < 4] in ([], [4 * rows % 4])
    if workers == 2:  # as many files each, so every row comes once
        assert sorted(row for batch in batches for row in batch) == list(range(4 * rows))


def test_rows_are_left_out_as_asked(shards):
    rows = stream(shards(), exclude_rows=["split=b"])
    assert len(rows) == 20 and sorted(numbers(rows)) == list(range(0, 40, 2))


def test_a_row_is_canonical(shards):
    row = next(iter(stream(shards())))
    assert set(row) == {"image", "question", "answer", "image_key"}
    assert Image.open(io.BytesIO(row["image"]["bytes"])).size[1] == 20


def test_rules_compare_as_json_does_and_are_refused_where_they_can_do_nothing(shards, caplog):
    pattern = shards(files=1, rows=6)
    rows = stream(pattern, exclude_rows=["split=a", "answer=yes"])
    assert len(rows) == 2 and all(row["answer"] == "no" for row in rows)
    assert len(stream(pattern, exclude_rows=["split=c"])) == 6
    assert 'split=c leaves nothing out; values of split are "a", "b"' in caplog.text
    with pytest.raises(
        ValueError, match="--exclude_rows splt=a: no column 'splt', found image, question, answer, split"
    ):
        stream(pattern, exclude_rows=["splt=a"])
    with pytest.raises(ValueError, match="no rows that can be used"):
        stream(pattern, exclude_rows=["split=a", "split=b"])


def test_answers_are_read_as_in_any_file(shards, caplog):
    answers = [["red", None], [], ["2"], [""], ["True"], ["blue"]]
    changes = {(0, row): {"answer": answer} for row, answer in enumerate(answers)}
    pattern = shards(1, 6, changes=changes)
    rows = stream(pattern, on_bad_example="skip", boolean_answers="yes_no")
    assert rows.summary.answers == {"red": 1, "2": 1, "yes": 1, "blue": 1} and len(rows) == 4
    assert sorted(row["answer"] for row in rows) == [["2"], ["blue"], ["red"], ["yes"]]


def test_a_pipe_among_the_files_is_refused(shards, tmp_path):
    pattern = shards(files=1)
    os.mkfifo(tmp_path / "train-9.parquet")
    with pytest.raises(ValueError, match="train-9.parquet: expected a regular file, found a pipe"):
        stream(pattern)


def damage(tmp_path, **fields):
    path = tmp_path / "train-1.parquet"
    table = pandas.read_parquet(path)
    for name, value in fields.items():
        table.at[3, name] = value
    table.to_parquet(path)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"image": {"bytes": b"no picture", "path": None}}, r"question .*13.* \(embedded image\): unreadable image"),
        ({"question": " "}, "empty question"),
    ],
)
def test_bad_rows_stop_the_run_or_are_left_out(shards, tmp_path, fields, message, caplog):
    pattern = shards()
    damage(tmp_path, **fields)
    with pytest.raises(BadExampleError, match=message):
        numbers(stream(pattern))
    rows = stream(pattern, on_bad_example="skip")
    with caplog.at_level(logging.WARNING):
        found = [row["question"] for row in rows]
    assert len(found) == len(rows) and not any(question.endswith(" 13") for question in found)
    assert "left out question" in caplog.text


def test_columns_of_a_stream_are_found_by_usual_names(shards, tmp_path):
    shards(files=1)
    path = tmp_path / "train-0.parquet"
    pandas.read_parquet(path).rename(columns={"question": "Frage", "image": "Bild"}).to_parquet(path)
    rows = stream(str(path))
    assert rows.columns == {"image": "Bild", "question": "Frage", "answer": "answer"}
    assert len(list(rows)) == 10


def test_what_cannot_be_streamed_is_named(shards, tmp_path):
    pattern = shards(files=2)
    with pytest.raises(ValueError, match="2 row groups for 3 processes"):
        stream(pattern, 0, 3)
    with pytest.raises(ValueError, match="1 row groups for each process, and 2 workers"):
        stream(pattern, 0, 2).check_workers(2)
    with pytest.raises(ValueError, match="no column 'photo'.*--image_column"):
        stream(pattern, image_column="photo")
    with pytest.raises(ValueError, match="no such file"):
        stream(str(tmp_path / "other-*.parquet"))
    (tmp_path / "train.csv").write_text("image,question,answer\n")
    with pytest.raises(ValueError, match="reads Parquet files, found .*train.csv"):
        stream(str(tmp_path / "train.csv"))
    with pytest.raises(ValueError, match="needs --train_file with Parquet files"):
        StreamedRows(DataArguments(dataset_name="easy_vqa", streaming=True))
    with pytest.raises(ValueError, match="shuffle_buffer must be at least 1"):
        DataArguments(shuffle_buffer=0)


@pytest.mark.slow
def test_a_run_streams_and_is_resumed(shards, tmp_path, caplog):
    folder = tmp_path / "out"
    tiny = {
        "fusion_hidden_size": 16,
        "fusion_num_attention_heads": 2,
        **{f"text_config.{k}": v for k, v in TEXT.items()},
    }
    arguments = ["--do_train", "--output_dir", str(folder), "--train_file", shards(), "--streaming"]
    arguments += "--image_size 64 --use_cpu --disable_tqdm true --report_to none --num_train_epochs 2".split()
    arguments += "--per_device_train_batch_size 8 --save_steps 3 --logging_steps 1".split()
    arguments += ["--config", *(f"{name}={value}" for name, value in tiny.items())]
    with pytest.raises(SystemExit, match="leave it out with --streaming"):
        run_vqa.main([*arguments, "--questions_per_image", "2"])
    with caplog.at_level(logging.INFO):
        run_vqa.main(arguments)
    assert "train: 40 questions about images that are read while training" in caplog.text
    state = json.loads((folder / "trainer_state.json").read_text())
    assert state["global_step"] == 10 and state["epoch"] == 2
    whole = load_file(folder / "model.safetensors")
    assert r"| train | train-\*.parquet | 40 | not counted | 100.0% |" in (folder / "README.md").read_text()

    run_vqa.main([*arguments, "--resume_from_checkpoint", str(folder / "checkpoint-6")])
    again = load_file(folder / "model.safetensors")
    assert all((whole[name] == again[name]).all() for name in whole)

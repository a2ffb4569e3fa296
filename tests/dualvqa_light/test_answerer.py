"""One callable from a batch of columns to a batch of columns, and the examples around it."""

import asyncio
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pandas as pd
import pytest
from helpers import COLOR, RED, ROOT
from PIL import Image

from dualvqa_light import Answerer
from dualvqa_light.promises_dualvqa import Promises

COLUMNS = set(Answerer.COLUMNS)


class Fixed:
    """A pipeline that gives each row the same answers, and remembers what it was called with."""

    def __init__(self):
        self.rows, self.batches = [], []
        self.decoder = SimpleNamespace(calibration={"familiarity": {"question": 1.0}})

    def __call__(self):
        """A pipeline can be called."""

    def read(self, row, options):
        if not row["question"]:
            raise ValueError("expected a question")
        self.rows.append(row)
        return row

    def answer(self, rows, options):
        self.batches.append((len(rows), options.top_k))
        if any(row["question"] == "nan?" for row in rows):
            raise ValueError("logits that aren't finite")
        sure = {"answer": "ja", "score": 0.9, "question_type": "binary"}
        unsure = {"answer": None, "best_guess": "red", "score": 0.2, "question_type": "open_ended"}
        unsure["unfamiliar"] = {"image": None, "question": True}
        return [
            [sure, {**sure, "answer": "nein", "score": 0.1}] if row["question"] == RED else [unsure] for row in rows
        ]


class Promising(Fixed):
    """A pipeline that promises what a calibration by organ does, of the same two answers to each row."""

    def __init__(self):
        super().__init__()
        sets = {"by": "organ", "groups": {"HEAD": {"levels": {"0.6": 0.3}}}}
        calibration = {"abstention": {"by": "organ", "groups": {"HEAD": {"threshold": 0.5}}}, "sets": sets}
        self.decoder = SimpleNamespace(calibration=calibration)

    def answer(self, rows, options):
        items, found = [{"answer": name, "question_type": "open_ended"} for name in ("red", "blue")], []
        items = [{**item, "score": score} for item, score in zip(items, (0.6, 0.4))]
        for row in rows:
            group = options.group if row.get("group") is None else row["group"]
            promises = Promises(self.decoder.calibration, coverage=options.coverage, group=group)
            found.append(promises.applied(items, [0.6, 0.4], "open_ended", promises.group))
        return found


def example(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_columns_in_and_always_the_same_columns_out():
    pipe = Fixed()
    answer = Answerer(pipe, keep=["id"], batch_size=4, options={"top_k": 2})
    found = answer({"image": ["a", "b"], "question": [RED, COLOR], "id": [7, 8], "other": [0, 0]})
    assert found == {
        "id": [7, 8],
        "answer": ["ja", None],
        "score": [0.9, 0.2],
        "question_type": ["binary", "open_ended"],
        "best_guess": ["ja", "red"],
        "unfamiliar": [False, True],
        "unfamiliar_image": [None, None],  # no limit for it
        "unfamiliar_question": [False, True],
        "answers": [["ja", "nein"], ["red"]],
        "scores": [[0.9, 0.1], [0.2]],
        "error": [None, None],
    }
    assert pipe.batches == [(2, 2)]
    assert set(Answerer(pipe)({"image": [], "question": []})) == COLUMNS


@pytest.mark.parametrize("column", ["organ", "group"])
def test_each_row_has_the_group_that_its_column_says(column):
    pipe = Fixed()
    batch = {"image": ["a", "b", "c"], "question": 3 * [RED], column: ["HEAD", None, 1]}
    Answerer(pipe)(batch)  # the model's promises are made by no column
    organs = {"by": "organ", "groups": {"HEAD": {"threshold": 0.0}, "1": None}}
    pipe.decoder = SimpleNamespace(calibration={"abstention": organs})
    Answerer(pipe)(batch)
    assert [row.get("group") for row in pipe.rows] == [None] * 3 + ["HEAD", None, 1]
    with pytest.raises(ValueError, match=f"expected one value of {column} for each of 3 images, found 1"):
        Answerer(pipe)({**batch, column: ["HEAD"]})


def test_an_empty_cell_of_the_groups_column_is_no_promise_and_the_options_group_is_of_batches_without_it():
    pipe = Promising()
    answer = Answerer(pipe, options={"group": "HEAD"})
    batch = {"image": list("abcdef"), "question": 6 * [COLOR]}
    cells = ["HEAD", None, float("nan"), np.float32("nan"), pd.NA, "ABD"]
    for column in (cells, pd.Series(cells), np.array(cells, object)):
        found = answer({**batch, "organ": column})
        assert found["answer"] == ["red", *5 * [None]] and found["error"][:5] == [None] * 5
        assert "found 'ABD'" in found["error"][5]
    assert answer(batch)["answer"] == ["red"] * 6


def test_the_column_coverage_tells_a_promised_set_from_a_row_without_a_promise():
    answer = Answerer(Promising(), options={"coverage": 0.6})
    batch = {"image": list("abc"), "question": [COLOR, COLOR, ""], "organ": ["HEAD", None, "HEAD"]}
    found = answer(batch)
    assert found["coverage"] == [0.6, None, None] and found["answers"] == [["red", "blue"], ["red"], []]
    assert set(found) == set(answer.columns) == COLUMNS | {"coverage"}
    assert "coverage" not in Answerer(Promising())(batch)


def test_arrays_of_images_and_of_texts_are_columns_too():
    pipe, images = Fixed(), np.zeros((2, 8, 8, 3), np.uint8)
    found = Answerer(pipe)({"image": images, "question": np.array([RED, COLOR])})
    assert found["answer"] == ["ja", None]
    assert [row["image"].shape for row in pipe.rows] == [(8, 8, 3)] * 2
    assert all(type(row["question"]) is str for row in pipe.rows)


def test_missing_columns_and_columns_of_unlike_length_are_named():
    answer = Answerer(Fixed(), keep=["id"])
    with pytest.raises(ValueError, match=r"columns image and question, found \['image'\]: no question"):
        answer({"image": ["a"]})
    with pytest.raises(ValueError, match="no id"):
        answer({"image": ["a"], "question": [RED]})
    with pytest.raises(ValueError, match="as many images as questions, found 1 and 2"):
        answer({"image": ["a"], "question": [RED, RED], "id": [1, 2]})


@pytest.mark.parametrize("calibration", [None, {}, {"familiarity": None}])
def test_what_is_not_judged_is_neither_familiar_nor_not(calibration):
    pipe = Fixed()
    pipe.decoder.calibration = calibration
    found = Answerer(pipe)({"image": ["a"], "question": [RED]})
    assert found["unfamiliar"] == found["unfamiliar_image"] == found["unfamiliar_question"] == [None]


def test_what_has_no_column_and_columns_of_the_answers_names_are_refused():
    with pytest.raises(ValueError, match="evidence, for which there is no column"):
        Answerer(Fixed(), options={"evidence": 2})
    with pytest.raises(ValueError, match="keep has 'score', which is a column of the answers"):
        Answerer(Fixed(), keep=["id", "score"])
    Answerer(Fixed(), keep=["coverage"])
    with pytest.raises(ValueError, match="'coverage'"):
        Answerer(Fixed(), keep=["coverage"], options={"coverage": 0.6})


def test_a_row_that_cannot_be_answered_fails_alone():
    pipe = Fixed()
    batch = {"image": list("abcd"), "question": [RED, "", "nan?", COLOR]}
    found = Answerer(pipe, batch_size=3)(batch)
    assert set(found) == COLUMNS and pipe.batches == [(2, 1), (1, 1), (1, 1), (1, 1)]
    assert found["answer"] == ["ja", None, None, None] and found["best_guess"] == ["ja", None, None, "red"]
    assert found["error"] == [None, "expected a question", "logits that aren't finite", None]
    assert found["answers"][1] == found["scores"][1] == [] and found["unfamiliar"] == [False, None, None, True]
    with pytest.raises(ValueError, match="^expected a question$"):
        Answerer(pipe, errors="raise")(batch)


@pytest.mark.parametrize("wrong", [{"errors": "ignore"}, {"batch_size": 0}, {"batch_size": 2.0}])
def test_an_argument_of_another_range_is_named(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be .* found"):
        Answerer(Fixed(), **wrong)


@pytest.mark.slow
def test_the_example_with_datasets_adds_the_answers_of_the_pipeline(exported, pictures, tmp_path):
    folder, pipe = exported
    rows = [
        {"image": path, "question": question, "id": number}
        for number, path in enumerate(pictures)
        for question in (RED, COLOR)
    ]
    missing = {"image": str(tmp_path / "none.png"), "question": RED, "id": 9}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, missing]))
    table = datasets.load_dataset("json", data_files=str(tmp_path / "rows.jsonl"), split="train", cache_dir=tmp_path)
    found = example("datasets_map").answered(table, folder, batch_size=4)  # the first two have no error
    assert set(found.column_names) == {"image", "question", "id", *COLUMNS}
    assert found["answer"][:] == [*(best[0]["answer"] for best in pipe(rows)), None]
    assert found["error"][:-1] == [None] * 8 and "none.png: No such file" in found["error"][-1]
    decoded = datasets.Dataset.from_dict({"image": [Image.open(path) for path in pictures], "question": [RED] * 4})
    assert example("datasets_map").answered(decoded, folder)["answer"][:] == [
        best[0]["answer"] for best in pipe(pictures, RED)
    ]


@pytest.mark.slow
def test_the_example_with_ray_gives_batches_of_arrays_to_a_class_made_in_each_worker(exported, pictures):
    """Ray is too large for the tests: what it does with the class is done here by hand."""
    folder, pipe = exported

    class Table:
        def map_batches(self, made, fn_constructor_args, fn_constructor_kwargs, batch_size, concurrency):
            content = np.empty(len(pictures), object)
            content[:] = [Path(path).read_bytes() for path in pictures]
            batch = {"image": content, "question": np.array([COLOR] * 4, object), "question_id": np.arange(4)}
            return made(*fn_constructor_args, **fn_constructor_kwargs)(batch)

    found = example("ray_data").answered(Table(), folder)
    assert set(found) == {"question_id", *COLUMNS} and list(found["question_id"]) == [0, 1, 2, 3]
    assert found["answer"] == [best[0]["answer"] for best in pipe(pictures, COLOR)]


def test_the_example_with_ray_serve_answers_requests_together_and_a_bad_one_alone():
    """Ray isn't installed for this: the class is called directly."""
    deployed = object.__new__(example("ray_serve").Answers)
    deployed.answerer, pipe = Answerer(pipe := Fixed()), pipe

    class Request:
        def __init__(self, row):
            self.row = row

        async def json(self):
            return [self.row]

    rows = [{"image": "a", "question": RED}, {"image": "b"}, {"image": "c", "question": COLOR}]
    good, bad, unsure = asyncio.run(deployed.answer(rows))
    assert good["answer"] == "ja" and bad["error"] == "expected a question" and unsure["best_guess"] == "red"
    assert pipe.batches == [(2, 1)]
    assert set(good) == COLUMNS and json.loads(json.dumps(good)) == good
    (same,) = asyncio.run(deployed(Request(rows[0])))
    assert same == good

import io
import json

import pyarrow
import pytest
from datasets import Array2D, Dataset, Features, Image, Sequence, Value
from helpers import write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PILImage
from pyarrow import parquet

from processing import DataArguments, prepare_datasets, write_predictions
from processing.files import read_file
from processing.rows import own_columns, row_fields

BEST = [{"answer": "yes", "score": 1.0, "question_type": "binary"}]


def written(folder, raw):
    """The lines of predictions.jsonl for all rows, as text."""
    write_predictions(folder / "predictions.jsonl", [BEST] * len(raw), range(len(raw)), raw)
    return (folder / "predictions.jsonl").read_text(encoding="utf-8").split("\n")[:-1]


def test_own_fields_come_back_to_the_byte(tmp_path):
    own = [
        '"id": 1234567890123456789, "fold": 1, "flag": true, "box": [1, 2.5], "meta": {"site": "A"}',
        '"id": 99999999999999999999999999, "fold": 1.0, "flag": "true", "box": [], "meta": null',
        '"id": 1e5, "fold": 0.10, "flag": null, "2020-01-01": "2020-01-02T00:00:00", "esc": "\\u00e9 é \\/ \\ud800"',
        '"nested": {"a": [{"b": [1, "2", null]}, -0, 1E400]}, "": "no name", "date": "1970-01-01"',
    ]
    (tmp_path / "rows.jsonl").write_text("".join(f"{{{fields}}}\n" for fields in own), encoding="utf-8")
    ending = '"answer": "yes", "score": 1.0, "question_type": "binary", "top_k": [{"answer": "yes", "score": 1.0}]}'
    assert written(tmp_path, read_file(str(tmp_path / "rows.jsonl"))) == [f"{{{fields}, {ending}" for fields in own]


def test_a_row_over_several_lines_is_one_line_of_predictions(tmp_path):
    (tmp_path / "rows.json").write_text('[{"box": [\n  1,\r\n  "a  b"\n ],\n "id":7}]')
    (line,) = written(tmp_path, read_file(str(tmp_path / "rows.json")))
    assert line.startswith('{"box": [ 1, "a  b" ], "id": 7, ')


def test_predictions_of_predictions_lose_no_field(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [{"answer": "a", "source_answer": "b", "score": 0, "top_k": []}])
    found = json.loads(written(tmp_path, read_file(path))[0])
    assert (found["source_answer"], found["source_source_answer"]) == ("b", "a")
    assert (found["source_score"], found["source_top_k"], found["answer"]) == (0, [], "yes")


def test_numbers_of_parquet_are_those_that_were_meant(tmp_path):
    table = {
        "small": pyarrow.array([0.1, None], pyarrow.float32()),
        "list": pyarrow.array([[0.1], []], pyarrow.list_(pyarrow.float32())),
        "large": pyarrow.array([2**64 - 1, 2**53 + 1], pyarrow.uint64()),
        "nullable": pyarrow.array([1, None], pyarrow.int64()),
        "half": pyarrow.array([0.1, 1.0], pyarrow.float16()),
    }
    parquet.write_table(pyarrow.table(table), tmp_path / "rows.parquet")
    rows = read_file(str(tmp_path / "rows.parquet"))
    first, second = row_fields(rows, [0, 1])
    assert first == {"small": "0.1", "list": "[0.1]", "large": str(2**64 - 1), "nullable": "1", "half": "0.1"}
    assert second["large"] == str(2**53 + 1) and second["small"] == second["nullable"] == "null"


def test_further_image_columns_are_neither_decoded_nor_written(tmp_path):
    buffer = io.BytesIO()
    PILImage.new("RGB", (8, 8)).save(buffer, "PNG")
    broken = {"bytes": b"no image", "path": None}
    features = {"image": Image(), "mask": Image(), "more": Sequence(Image()), "box": Array2D((1, 2), "float32")}
    columns = {"image": [{"bytes": buffer.getvalue(), "path": "a.png"}], "mask": [broken], "more": [[broken, None]]}
    columns |= {"box": [[[0.1, 2]]], "question": ["q?"], "answer": ["red"]}
    features = Features({**features, "question": Value("string"), "answer": Value("string")})
    Dataset.from_dict(columns, features=features).to_parquet(str(tmp_path / "rows.parquet"))
    args = DataArguments(train_file=str(tmp_path / "rows.parquet"), validation_fraction=0.0)
    parts, raw, bad = prepare_datasets(args)
    assert not bad and {"mask", "more"}.isdisjoint(parts["train"].column_names) and "box" in parts["train"].column_names
    found = json.loads(written(tmp_path, raw["train"])[0])
    assert (found["image"], found["mask"], found["more"]) == ("a.png", "embedded image", ["embedded image", None])
    assert found["box"] == [[0.1, 2.0]]


def test_columns_of_one_type_keep_it_and_others_become_json_text(tmp_path):
    rows = [{"n": 1, "mixed": 1, "text": "a", "big": 2**63}, {"n": 2, "mixed": "a", "late": True, "big": None}]
    read = read_file(write_jsonl(tmp_path / "rows.jsonl", rows))
    assert own_columns(read, ["n", "mixed", "text", "late", "big"], [1, 0]) == {
        "n": [2, 1],
        "mixed": ["a", "1"],
        "text": [None, "a"],
        "late": [True, None],
        "big": [None, str(2**63)],
    }


TEXT = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(TEXT.map("own_{}".format), JSON, max_size=3), min_size=1, max_size=3))
def test_whatever_a_row_has_besides_is_written_unchanged(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    PILImage.new("RGB", (8, 8)).save(folder / "a.png")
    rows = [{"image": "a.png", "question": "q?", **row} for row in rows]
    path = write_jsonl(folder / "rows.jsonl", rows)
    args = DataArguments(test_file=path, image_dir=str(folder))
    parts, raw, _ = prepare_datasets(args, needs_training=False)
    assert len(parts["test"]) == len(rows)
    for row, line in zip(rows, written(folder, raw["test"]), strict=True):
        found = {name: value for name, value in json.loads(line).items() if name in row}
        assert json.dumps(found) == json.dumps(row)

import json
import os
import re

import pyarrow
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence
from pyarrow import parquet

from processing.files import read_file
from processing.rows import column_values, row_fields

ROW = '{"image": "a.png", "question": "q?", "answer": "red"}'


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize(
    "name, content",
    [
        ("lines.jsonl", f"{ROW}\n\n{ROW}"),
        ("windows.jsonl", f"{ROW}\r\n{ROW}\r\n"),
        ("array.json", f"[\n{ROW},\n{ROW}\n]\n"),
        ("array.jsonl", f"[{ROW},\n{ROW}]"),
        ("lines.json", f"{ROW}\n{ROW}\n"),
        ("columns.json", '{"image": ["a.png", "a.png"], "question": ["q?", "q?"], "answer": ["red", "red"]}'),
        ("index.json", '{"image": {"5": "a.png", "7": "a.png"}, "answer": {"7": "red", "5": "red"}}'),
        ("table.csv", "image,question,answer\na.png,q?,red\n\na.png,q?,red\n"),
        ("late.csv", "\n \r\n,,\nimage,question,answer\na.png,q?,red\n \na.png,q?,red\n"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_rows_are_found_in_every_layout_and_behind_a_byte_order_mark(tmp_path, name, content, mark):
    rows = read_file(write(tmp_path, name, mark + content))
    assert len(rows) == 2 and rows["image"] == ["a.png"] * 2 and rows["answer"] == ["red"] * 2
    assert rows.column_names[0] == "image"


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.jsonl", "null\n", "a.jsonl line 1: expected an object with a row's fields, found null"),
        ("a.json", "[]\nx", "line 2 is not valid json: text after the end"),
        ("a.json", f"[{ROW}\n{ROW}]", "line 2 is not valid json: expected , or ]"),
        ("a.json", '{"info": {}, "questions": [1]}', "expected an array of rows.*found an object with info, questions"),
        ("a.json", '{"image": ["a"], "image": ["b"]}', "a.json: the key 'image' comes twice in one object"),
        ("a.json", '{"image": {"0": "a", "0": "b"}}', "a.json: the key '0' comes twice in one object"),
        ("a.jsonl", f"{ROW}\n".encode() + b'{"image": "\xff"}', "a.jsonl line 2: expected UTF-8, found the byte 0xff"),
        ("a.jsonl", f'{{"d": {"9" * 5000}}}', "a.jsonl line 1: it is not valid JSON: Exceeds the limit"),
        ("a.csv", 'image,answer\na.png,"red\n', "row 2: a quote is opened and never closed"),
        ("a.parquet", "no table", "a.parquet is not valid parquet"),
        ("a.doc", "text", "expected a file ending in .csv, .tsv, .tab, .txt, .xlsx, .xlsm, .jsonl, .ndjson, .json"),
        ("a.xls", "text", "expected a file ending in .*; save it as .xlsx or CSV"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name_and_line(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        read_file(write(tmp_path, name, content))


@pytest.mark.parametrize(
    "name, content, place, problem",
    [
        ("a.jsonl", f"{ROW}\n\n3\n", "line 3", "expected an object with a row's fields, found a number"),
        ("a.ndjson", f"{ROW}\n[1]\n", "line 2", "expected an object with a row's fields, found a list"),
        ("a.json", f"[{ROW},\n\n7]", "line 3", "expected an object with a row's fields, found a number"),
        ("a.jsonl", f"{ROW}\n{ROW} {ROW}\n", "line 2", "it is not valid JSON: text after the end of the row"),
        ("a.jsonl", f'{ROW}\n{{"d": {"[" * 5000}', "line 2", "it is not valid JSON: nested deeper than 100 levels"),
        ("a.jsonl", f'{ROW}\n{{"d": {"[" * 150}{"]" * 150}}}', "line 2", "nested deeper than 100 levels"),
        ("a.csv", "image,answer\na,b\n\na.png,red,blue\n", "row 4", "expected 2 cells.*found 3; write cells with ','"),
        ("a.csv", 'image,answer\n"a\nb",c\n"a" b,c\n', r"row 3 \(line 4 of the text\)", "its quotes can't be read"),
    ],
)
def test_a_row_that_can_not_be_read_is_a_problem_in_its_place(tmp_path, name, content, place, problem):
    rows = read_file(write(tmp_path, name, content))
    ((row, found),) = rows.problems.items()
    assert row == len(rows) - 1 == 1 and re.fullmatch(place, rows.places.name(row)) and re.match(problem, found)


def test_json_may_be_in_any_unicode(tmp_path):
    row = {"image": "a.png", "question": "Größe?", "answer": "ü"}
    for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-8-sig"):
        assert read_file(write(tmp_path, "a.jsonl", json.dumps(row, ensure_ascii=False).encode(encoding)))[0] == row


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_pipes_devices_and_folders_are_refused_before_they_are_opened(tmp_path, make):
    make(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match="a.jsonl: expected a regular file, found a"):
        read_file(str(tmp_path / "a.jsonl"))


def test_values_of_an_object_of_columns_keep_their_text(tmp_path):
    texts = ["1.10", "1e2", "1e400", '"\\u00e9 é"', '{"a": [0.50, -0]}', "99999999999999999999"]
    lists = f'{{"own": [{", ".join(texts)}],\n "n" : [0,1,2,3,4,5]}}'
    by_row = f'{{"own": {{{", ".join(f"{key!r}: {text}" for key, text in enumerate(texts))}}}}}'
    for content in (lists, re.sub(r"(\d): ", r'"\1": ', by_row)):
        rows = read_file(write(tmp_path, "columns.json", content))
        assert [fields["own"] for fields in row_fields(rows, range(6))] == texts


def test_a_key_that_comes_twice_is_a_problem_of_its_row(tmp_path):
    lines = [ROW, '{"image": "a.png", "image": "b.png"}', "", '{"own": [{"a": 1, "\\u0061": 1}]}', ROW]
    rows = read_file(write(tmp_path, "a.jsonl", "\n".join(lines)))
    assert [rows.places.name(row) for row in rows.problems] == ["line 2", "line 4"]
    assert rows.problems == {
        1: "the key 'image' comes twice in one object; only one can be meant",
        2: "the key 'a' comes twice in one object; only one can be meant",
    }


def test_csv_cells_are_text_and_columns_that_come_twice_are_numbered(tmp_path):
    rows = read_file(write(tmp_path, "a.csv", 'id,answer,answer\n007,,"1,0"\n1e5,NA\n'))
    assert rows[0] == {"id": "007", "answer": "", "answer.1": "1,0"}
    assert rows[1] == {"id": "1e5", "answer": "NA", "answer.1": None}


def test_parquet_keeps_class_names_and_leaves_out_the_index_of_pandas(tmp_path):
    features = Features({"answer": ClassLabel(names=["no", "yes"]), "all": Sequence(ClassLabel(names=["a", "b"]))})
    path = str(tmp_path / "classes.parquet")
    Dataset.from_dict({"answer": [1, -1, None], "all": [[1, 0], [], None]}, features=features).to_parquet(path)
    assert column_values(read_file(path), ["answer", "all"]) == {
        "answer": ["yes", None, None],
        "all": [["b", "a"], [], None],
    }
    table = Dataset.from_dict({"answer": ["red", "blue"]}).to_pandas().iloc[::-1]
    table.to_parquet(path)
    assert read_file(path).column_names == ["answer"]


def test_parquet_types_that_have_no_counterpart_are_read_all_the_same(tmp_path):
    path = str(tmp_path / "types.parquet")
    maps = pyarrow.array([[("a", 1)], None], pyarrow.map_(pyarrow.string(), pyarrow.int64()))
    kinds = pyarrow.array(["x", "y"]).dictionary_encode()
    inner = pyarrow.map_(pyarrow.string(), pyarrow.list_(pyarrow.struct([("x", pyarrow.float32())])))
    small = pyarrow.array([[("a", [{"x": 0.1}, None])], None], inner)
    half = pyarrow.array([[("a", 0.1)], None], pyarrow.map_(pyarrow.string(), pyarrow.float16()))
    far = pyarrow.array([10**14, 0], pyarrow.timestamp("s"))
    parquet.write_table(pyarrow.table({"map": maps, "kind": kinds, "far": far, "small": small, "half": half}), path)
    values = column_values(read_file(path), ["map", "kind", "far", "small", "half"])
    assert json.loads(values["map"][0]) == [["a", 1]] and values["kind"] == ["x", "y"]
    assert values["small"] == ['[["a", [{"x": 0.1}, null]]]', None] and values["half"][0] == '[["a", 0.1]]'
    assert values["far"] == [10**17, 0]  # Parquet has milliseconds

"""Rows are read a few at a time, from any row on, and are those that read_file gives."""

import itertools
import json

import pandas
import pytest
from helpers import write_jsonl

from processing import DataArguments, row_streams
from processing.files import read_file
from processing.row_streams import HeldRows, JoinedRows, open_rows
from processing.rows import row_fields

ROWS = [
    {"image": f"{n}.png", "question": 'größe, "x"?\n', "n": n, **({"late": [n]} if n > 8 else {})} for n in range(11)
]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(row_streams, "PIECE", 3)


def fields(stream, start=0):
    return [row for piece in stream.pieces(start) for row in row_fields(piece.rows, range(len(piece.rows)))]


def places(stream, start=0):
    return [piece.place(row) for piece in stream.pieces(start) for row in range(len(piece.rows))]


def written(tmp_path, kind):
    table = pandas.DataFrame(ROWS[:8])
    path = tmp_path / f"rows.{kind.split()[0]}"
    if kind == "jsonl":
        return write_jsonl(path, ROWS)
    if kind == "json of lines":
        path.write_text("\ufeff\n\n" + "\n\n".join(json.dumps(row) for row in ROWS), encoding="utf-16")
    elif kind == "json":
        path.write_text(json.dumps(ROWS))
    elif kind == "csv":
        path.write_text("sep=;\n" + table.to_csv(index=False, sep=";"), encoding="cp1252")
    elif kind == "tsv":
        table.to_csv(path, sep="\t", index=False, encoding="utf-16")
    elif kind == "parquet":
        table.to_parquet(path, row_group_size=4)
    elif kind == "xlsx":
        table.to_excel(path, index=False)
    return str(path)


@pytest.mark.parametrize("kind", ["jsonl", "json of lines", "json", "csv", "tsv", "parquet", "xlsx"])
def test_rows_and_their_places_are_those_of_the_file_read_whole(tmp_path, kind):
    path, args = written(tmp_path, kind), DataArguments()
    whole, stream = read_file(path, args), open_rows(path, args)
    assert isinstance(stream, HeldRows) == (kind in ("json", "xlsx"))
    expected = list(row_fields(whole, range(len(whole))))
    assert stream.count() == len(expected) >= 8 and stream.source == path
    for start in (0, 1, 3, 5, 7):
        assert fields(stream, start) == expected[start:]
    if hasattr(whole, "places"):
        assert places(stream, 4) == [whole.places.name(row) for row in range(4, len(whole))]
    else:
        assert places(stream, 4)[0] == "row 5"
    assert set(stream.column_names) <= set(whole.column_names)


def test_several_files_follow_one_another_by_their_names(tmp_path):
    for name, start in (("b", 6), ("a", 0)):
        write_jsonl(tmp_path / f"{name}.jsonl", ROWS[start : start + 5])
    stream = open_rows(str(tmp_path / "*.jsonl"), DataArguments())
    assert isinstance(stream, JoinedRows) and stream.count() == 10
    assert [json.loads(row["n"]) for row in fields(stream, 3)] == [3, 4, 6, 7, 8, 9, 10]
    assert [json.loads(row["n"]) for row in fields(stream, 7)] == [8, 9, 10]
    with pytest.raises(ValueError, match="no such file"):
        open_rows(str(tmp_path / "*.parquet"), DataArguments())


def test_rows_that_pass_once_are_taken_as_they_are_asked_for():
    taken = []
    stream = open_rows((taken.append(row["n"]) or row for row in ROWS), DataArguments())
    assert stream.column_names == ["image", "question", "n"] and taken == [0, 1, 2] and stream.count() is None
    first = next(stream.pieces())
    assert len(first.rows) == 3 and len(taken) == 3
    with pytest.raises(ValueError, match="expected a dict for each row, found int"):
        list(open_rows(iter([1, 2]), DataArguments()).pieces())


def test_a_table_is_told_by_its_beginning_and_refused_where_the_rest_is_in_another_encoding(tmp_path, monkeypatch):
    monkeypatch.setattr(row_streams, "SAMPLE", 64)
    path = tmp_path / "rows.csv"
    lines = ["image;question", *(f"{n}.png;größe {n}?" for n in range(9))]
    path.write_text("\n".join(lines), encoding="utf-8")
    stream = open_rows(str(path), DataArguments())
    assert stream.count() == 9 and fields(stream, 8) == [{"image": '"8.png"', "question": '"größe 8?"'}]
    path.write_bytes(path.read_bytes() + "\n9.png;größe 9?".encode("cp1252"))
    with pytest.raises(ValueError, match="expected utf-8 in all of it, as at its beginning, found the byte 0xf6"):
        open_rows(str(path), DataArguments()).count()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_a_beginning_ends_with_a_line(monkeypatch, encoding):
    text = "größe\n" * 40
    for size in range(70, 90):
        monkeypatch.setattr(row_streams, "SAMPLE", size)
        cut = row_streams.whole_lines(text.encode(encoding)[: size + 1]).decode(encoding)
        assert cut and set(cut.splitlines()) == {"größe"} and cut.endswith("\n")
    assert list(itertools.islice(row_streams.pieces_of(range(4)), 2)) == [[0, 1, 2], [3]]

import json
import logging
import re

import pytest
from helpers import data_arguments as arguments
from helpers import write_jsonl

from processing import BadExampleError, DataArguments, prepare_datasets
from processing.canonical import BadCellError, RowReader

ROW = {"image": "0.png", "question": "q?", "answer": "red"}


def reader(**fields):
    return RowReader(DataArguments(**fields), "rows")


@pytest.mark.parametrize(
    "value, expected",
    [
        ("Hepatitis A", "Hepatitis A"),
        (["red", None, "", " ", float("nan"), "Red"], ["red", "Red"]),
        (["red", 2], ["red", "2"]),
        ([{"answer": "red", "answer_confidence": "yes"}, {"answer": None}], ["red"]),
        ({"answer": ["red", "blue"], "answer_id": [1, 2]}, ["red", "blue"]),
        ([["red"], "blue"], ["red", "blue"]),
        (3, "3"),
        (3.0, "3"),
        (0.5, "0.5"),
        (None, None),
        (" ", None),
        ([], None),
        ([None, ""], None),
        ("['red', 'blue']", ["red", "blue"]),
        ("['red', 2]", ["red", "2"]),
        (["red", []], ["red"]),
        ("[]", None),
        ("[None, None]", None),
        ("[null]", None),
        ("[nan]", None),
        ("[nan nan]", None),
        ("[<NA>, '']", None),
        ("[[], None]", None),
        ("[['red'], [], [None]]", ["red"]),
        (["[]", "red", "[None]"], ["red"]),
        ("[1, 2]", "[1, 2]"),  # may be an interval, where the source has lists of its own
    ],
)
def test_an_answer_is_what_one_or_several_people_wrote_without_gaps(value, expected):
    assert reader().answer(value) == expected
    if value != "[1, 2]":
        assert RowReader(DataArguments(), "rows", all_text=True).answer(value) == expected


@pytest.mark.parametrize(
    "column, value, message",
    [
        ("answer", {"en": "red"}, "expected an answer's text, found an object with 'en'"),
        ("answer", [["red", "blue"]], "found a list of 2"),
        ("answer", b"red", "found 3 bytes"),
        ("answer", ["\ud800"], "half of a surrogate pair"),
        ("question", {"en": "q?"}, "expected a question's text, found an object with 'en'"),
        ("question", ["q?", "r?"], "expected one question, found a list of 2"),
        ("question", [], "found a list of 0"),
        ("question", "\udc00", "half of a surrogate pair"),
        ("image", ["a.png", "b.png"], "expected one image, found a list of 2"),
        ("image", [], "no image"),
        ("image", None, "no image"),
        ("image", {"bytes": "text"}, "expected an image's path or bytes, found an object with 'bytes'"),
        ("image", {"url": "a.png"}, "found an object with 'url'"),
        ("image", "\ud800.png", "half of a surrogate pair"),
    ],
)
def test_what_is_no_image_question_or_answer_is_named(column, value, message):
    with pytest.raises(BadCellError, match=message):
        getattr(reader(), column)(value)


def test_a_list_of_one_is_that_one():
    assert reader().question(["q?"]) == "q?"
    assert reader(image_dir="images").image(["a.png"]) == "images/a.png"
    assert reader(image_dir="images").image({"path": "a.png", "bytes": None}) == "images/a.png"
    assert reader().image([{"bytes": b"x", "path": "a.png"}]) == {"bytes": b"x", "path": "a.png"}


@pytest.mark.parametrize("answers", [["red", ["red", "blue"]], [["red"], "blue"], ["red", []], [True, "red", 3]])
def test_answers_of_all_shapes_stand_side_by_side(image_folder, answers):
    rows = [{**ROW, "answer": answer} for answer in answers]
    path = write_jsonl(image_folder / "mixed.jsonl", rows)
    parts, _, bad = prepare_datasets(arguments(image_folder, train_file=path, on_bad_example="skip"))
    found = [answer if isinstance(answer, list) else [answer] for answer in parts["train"]["answer"]]
    expected = [answer if isinstance(answer, list) else [answer] for answer in answers if answer != []]
    assert found == [[json.dumps(a) if isinstance(a, (bool, int)) else a for a in answer] for answer in expected]
    assert [row["row"] for row in bad] == [n for n, answer in enumerate(answers, 1) if answer == []]


def test_all_bad_rows_are_told_the_first_of_them_with_row_and_path(image_folder):
    rows = [ROW, {**ROW, "image": ["0.png", "1.png"]}, {**ROW, "question": {"en": "q?"}}, {**ROW, "answer": None}]
    path = write_jsonl(image_folder / "bad.jsonl", rows + 9 * [{**ROW, "image": "gone.png"}])
    with pytest.raises(BadExampleError) as caught:
        prepare_datasets(arguments(image_folder, train_file=path))
    message = str(caught.value)
    first, *rows, hint, advice = message.splitlines()
    assert first.endswith("bad.jsonl has 12 bad rows of 13:") and len(rows) == 11 and rows[10] == "  ..."
    assert hint == f"9 rows name an image that doesn't exist; relative paths start from --image_dir {image_folder}"
    assert rows[0] == "  line 2 (no image): column 'image': expected one image, found a list of 2"
    assert rows[1].endswith("0.png): column 'question': expected a question's text, found an object with 'en'")
    assert rows[2].endswith("no answer") and advice.startswith("Mend them, or leave such rows out")
    parts, _, bad = prepare_datasets(arguments(image_folder, train_file=path, on_bad_example="skip"))
    assert len(parts["train"]) == 1 and [row["row"] for row in bad] == list(range(2, 14)) and caught.value.rows == bad


def test_empty_answers_beside_others_are_counted_and_the_first_are_named(image_folder, caplog):
    answers = ["red", ["red", "", "blue"], [None, "", " "], [None, {"answer": ""}, "red"], "['red', '']"]
    train = write_jsonl(image_folder / "train.jsonl", [ROW])
    path = write_jsonl(image_folder / "gaps.jsonl", [{**ROW, "answer": answer} for answer in answers])
    for part in ("train", "validation", "test"):
        caplog.clear()
        files = {"train_file": train, f"{part}_file": path, "on_bad_example": "skip"}
        prepare_datasets(arguments(image_folder, **files), scores_test=True)
        (message,) = [text for text in caplog.messages if "empty answers" in text]
        assert f"{path}: 4 empty answers in 3 of 5 questions, beside those of other people, are left out" in message
        assert f"line 2 ({image_folder}/0.png): ['red', '', 'blue']. If they mean something" in message


def test_empty_answers_of_a_part_that_is_not_scored_are_not_told(image_folder, caplog):
    path = write_jsonl(image_folder / "gaps.jsonl", [{**ROW, "answer": ["red", ""]}, {**ROW, "answer": None}])
    prepare_datasets(arguments(image_folder, test_file=path))
    assert "it is predicted, not scored" in caplog.text and "empty answers" not in caplog.text


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["Ja; Ja", "Nein;Ja", "rot"], "2 of 3 answers look like .* 'Ja; Ja', .* as a list: \\['Ja', 'Ja'\\]"),
        (["red|blue", "red"], "1 of 2 answers"),
        (["red, red, blue", "red"], "as a list: \\['red', 'red', 'blue'\\]"),
        (["red, blue", "table, chair"], None),  # several things
        (["red;", "|", "a, b", "1,1"], None),
        (["a; b"] + 30 * ["red"], None),
    ],
)
def test_cells_that_look_like_several_peoples_answers_are_told_where_they_are_many(cells, said, image_folder, caplog):
    path = write_jsonl(image_folder / "cells.jsonl", [{**ROW, "answer": cell} for cell in cells])
    parts, *_ = prepare_datasets(arguments(image_folder, train_file=path, on_bad_example="skip"))
    assert set(parts["train"]["answer"]) <= set(cells)
    assert bool(said) == ("in one cell" in caplog.text) and re.search(said or "", caplog.text)


def test_booleans_are_yes_and_no_where_asked_for_else_words_with_a_warning(image_folder, caplog):
    path = write_jsonl(image_folder / "bool.jsonl", [{**ROW, "answer": a} for a in (True, [False, True], "False")])
    parts, *_ = prepare_datasets(arguments(image_folder, train_file=path))
    assert list(parts["train"]["answer"]) == [["true"], ["false", "true"], ["False"]]
    assert "4 answers are true or false" in caplog.text and "with boolean_answers yes_no" in caplog.text
    parts, *_ = prepare_datasets(arguments(image_folder, train_file=path, boolean_answers="yes_no"))
    assert list(parts["train"]["answer"]) == [["yes"], ["no", "yes"], ["no"]]
    with pytest.raises(ValueError, match="boolean_answers must be words or yes_no, found 'maybe'"):
        DataArguments(boolean_answers="maybe")


def test_lists_that_csv_holds_as_text_are_read_and_said(image_folder, caplog):
    cells = ["['red','red','blue']", '[""red"", ""red""]', "[dark red]", "[]", "[1, 1]"]
    lines = [f'0.png,q?,"{cell}","[7]"' for cell in cells]
    (image_folder / "lists.csv").write_text("\n".join(["image,question,answer,own", *lines]))
    file = str(image_folder / "lists.csv")
    parts, _, bad = prepare_datasets(arguments(image_folder, train_file=file, on_bad_example="skip"))
    assert list(parts["train"]["answer"]) == [["red", "red", "blue"], ["red", "red"], ["[dark red]"], ["1", "1"]]
    assert [row["row"] for row in bad] == [5] and parts["train"]["own"][0] == "[7]"
    assert "4 lists that are written as text are read as lists" in caplog.text
    assert "1 texts in brackets look like lists, can't be read as such, and are kept as text" in caplog.text


def test_with_image_dir_only_no_image_outside_is_read(image_folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "x.png").write_bytes((image_folder / "0.png").read_bytes())
    (image_folder / "link.png").symlink_to(outside / "x.png")
    paths = ["0.png", f"../{outside.name}/x.png", str(outside / "x.png"), "link.png", {"path": str(outside / "x.png")}]
    path = write_jsonl(image_folder / "paths.jsonl", [{**ROW, "image": image} for image in paths])
    assert len(prepare_datasets(arguments(image_folder, train_file=path))[0]["train"]) == len(paths)
    fenced = arguments(image_folder, train_file=path, image_dir_only=True, on_bad_example="skip")
    parts, _, bad = prepare_datasets(fenced)
    assert list(parts["train"]["row"]) == [0] and all("--image_dir_only forbids that" in row["problem"] for row in bad)
    with pytest.raises(ValueError, match="--image_dir_only needs --image_dir"):
        DataArguments(train_file=path, image_dir_only=True)


def test_nothing_is_said_of_ordinary_answers(image_folder, caplog):
    with caplog.at_level(logging.WARNING):
        prepare_datasets(arguments(image_folder))
    assert not caplog.records

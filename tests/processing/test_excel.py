import datetime
import logging
import sys

import openpyxl
import pytest
from openpyxl.drawing.image import Image

from processing import DataArguments, prepare_datasets
from processing.files import read_file
from processing.rows import row_fields

HEAD = ["image", "question", "answer"]


@pytest.fixture
def book():
    return openpyxl.Workbook()


def save(book, folder, *rows):
    """Writes a workbook whose first sheet has further rows; gives its path."""
    for row in rows:
        book.active.append(row)
    book.save(folder / "a.xlsx")
    return str(folder / "a.xlsx")


def test_a_sheet_is_read_as_its_cells_are(book, tmp_path):
    values = ["007", 7, 2.0, 1.5, True, datetime.datetime(2020, 1, 2), datetime.datetime(2020, 1, 2, 3, 4), " ", "ü,;"]
    rows = read_file(save(book, tmp_path, HEAD, *(["a.png", "q?", value] for value in values)))
    assert rows.columns(["answer"])["answer"] == [
        "007",
        7,
        2,
        1.5,
        True,
        "2020-01-02",
        "2020-01-02T03:04:00",
        None,
        "ü,;",
    ]
    assert next(row_fields(rows, [0])) == {"image": '"a.png"', "question": '"q?"', "answer": '"007"'}


def test_rows_are_numbered_as_the_sheet_numbers_them_and_trained_on(book, image_folder):
    path = save(
        book,
        image_folder,
        ["Bild", "Frage", "Antwort"],
        ["0.png", "rot?", "ja"],
        [],
        ["1.png", "rot?", "nein"],
        ["2.png"],
    )
    args = DataArguments(train_file=path, image_dir=str(image_folder), validation_fraction=0, on_bad_example="skip")
    parts, _, bad = prepare_datasets(args)
    assert parts["train"]["answer"][:] == ["ja", "nein"]
    assert [(row["row"], row["place"]) for row in bad] == [(5, "row 5")]


def test_merged_cells_have_the_value_that_is_shown_in_all_of_them(book, tmp_path, caplog):
    path = save(book, tmp_path, HEAD, ["a.png", "q?", "red"], [None, "r?", "blue"], ["b.png", "q?", "red"])
    book.active.merge_cells("A2:A3")
    book.active.row_dimensions[4].hidden = True
    book.save(path)
    assert read_file(path).columns(["image"])["image"] == ["a.png", "a.png", "b.png"]
    assert "each of 2 merged cells has the value that is shown in them" in caplog.text
    assert "1 hidden rows are read as the others are" in caplog.text


def test_numbers_that_are_shown_otherwise_and_pictures_are_told(book, image_folder, caplog):
    path = save(book, image_folder, HEAD, ["a.png", "how much?", 0.5], ["a.png", "how many?", 3])
    book.active["C2"].number_format, book.active["C3"].number_format = "0%", "0"
    book.active.add_image(Image(str(image_folder / "0.png")), "D2")
    book.save(path)
    with caplog.at_level(logging.WARNING):
        assert read_file(path).columns(["answer"])["answer"] == [0.5, 3]
    assert "1 numbers of column 'answer' are shown as 0% and read as they are stored" in caplog.text
    assert "its 1 pictures are not read; give images as files" in caplog.text and len(caplog.messages) == 2


def test_errors_formulas_and_nameless_values_are_problems_of_their_rows(book, tmp_path):
    rows = [["a", "q?", "=1+1"], ["a", "q?", "#N/A"], ["a", "q?", "red", "note"], ["a", "q?", "red"]]
    rows = read_file(save(book, tmp_path, HEAD, *rows))
    assert list(rows.problems) == [0, 1, 2] and rows.places.name(2) == "row 4"
    assert rows.problems[0] == "C2 is a formula that was never computed; open the file in Excel and save it"
    assert rows.problems[1] == "C3 is #N/A"
    assert rows.problems[2] == "D4 has a value, and its column has no name"


@pytest.mark.parametrize("merged", [False, True])
def test_a_title_above_the_names_is_told(book, tmp_path, merged):
    path = save(book, tmp_path, ["Quiz of 2024"], HEAD, ["a", "q?", "red"])
    if merged:
        book.active.merge_cells("A1:C1")
        book.save(path)
    message = (
        "a.xlsx, sheet 'Sheet': expected the names of the columns in its first row, found one cell there, 'Quiz of"
    )
    with pytest.raises(ValueError, match=message):
        read_file(path)


def test_a_sheet_is_named_where_there_are_several(book, tmp_path):
    path = save(book, tmp_path, HEAD, ["a", "q?", "red"])
    book.create_sheet("empty")
    book.save(path)
    assert len(read_file(path)) == 1
    book.create_sheet("more").append(["image"])
    book["more"].append(["b"])
    book.save(path)
    with pytest.raises(ValueError, match="a.xlsx has several sheets with rows: Sheet, more; name .* --excel_sheet"):
        read_file(path)
    assert read_file(path, DataArguments(excel_sheet="more")).columns(["image"]) == {"image": ["b"]}
    with pytest.raises(ValueError, match=r"no sheet 'other' \(it has Sheet, empty, more\)"):
        read_file(path, DataArguments(excel_sheet="other"))


def test_what_is_no_spreadsheet_is_named(book, tmp_path, monkeypatch):
    (tmp_path / "b.xlsx").write_text("image,question")
    with pytest.raises(ValueError, match="b.xlsx is not valid .xlsx"):
        read_file(str(tmp_path / "b.xlsx"))
    with pytest.raises(ValueError, match="a.xlsx has no rows"):
        read_file(save(book, tmp_path))
    with pytest.raises(ValueError, match="a.xlsx, sheet 'Sheet' has no rows below the names"):
        read_file(save(book, tmp_path, HEAD))
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ImportError, match=r"pip install 'dualvqa\[excel\]', or save the sheet as CSV UTF-8"):
        read_file(str(tmp_path / "a.xlsx"))

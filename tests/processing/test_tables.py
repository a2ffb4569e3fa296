import contextlib
import csv
import io
import json
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing import DataArguments
from processing.files import read_file
from processing.rows import row_fields

ROWS = [
    {"image": "a.png", "question": "is it red, blue; or\tneither | both?", "answer": "yes"},
    {"image": "b.png", "question": 'say "hi"\nto whom?', "answer": "1,5"},
    {"image": "c.png", "question": "which?", "answer": ""},
]


def cell(text, separator):
    quoted = set(text) & {separator, '"', "\n"}
    return '"' + text.replace('"', '""') + '"' if quoted else text


def written(separator, rows=ROWS, line="\n"):
    lines = [list(rows[0]), *(row.values() for row in rows)]
    return line.join(separator.join(cell(text, separator) for text in values) for values in lines) + line


def save(folder, content, name="a.csv"):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder / name)


def read(folder, content, name="a.csv", **fields):
    return read_file(save(folder, content, name), DataArguments(**fields))


def values(rows):
    return [{name: json.loads(text) for name, text in fields.items()} for fields in row_fields(rows, range(len(rows)))]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name, line", [("a.csv", "\n"), ("a.tsv", "\r\n"), ("a.txt", "\r")])
def test_every_usual_separator_is_found_out_whatever_the_ending_says(tmp_path, separator, name, line):
    assert values(read(tmp_path, written(separator, ROWS[::2], line), name)) == ROWS[::2]
    assert values(read(tmp_path, written(separator), name)) == ROWS


def test_what_was_found_is_said_but_for_commas_in_utf_8(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        read(tmp_path, written(","))
        assert not caplog.text
        read(tmp_path, written("\t").encode("utf-16"), "unicode.txt")
    assert "unicode.txt: its cells are separated by the tab, its encoding is utf-16" in caplog.text


def test_the_line_by_which_spreadsheets_know_the_separator_is_no_row(tmp_path):
    rows = read(tmp_path, "sep=;\n" + written(";", ROWS[:1]))
    assert values(rows) == ROWS[:1] and rows.places.name(0) == "row 2 (line 3 of the text)"


@pytest.mark.parametrize(
    "content, answers",
    [
        ("image;question;answer\na;how much, then?;1,5\nb;how, why, where?;2,5\n", ["1,5", "2,5"]),
        ("image;answer;\na;red;\nb;blue;\n;;\n;;\n", ["red", "blue"]),  # as spreadsheets leave empty cells behind
        ("image, question, answer\na, what?, red\nb, 'x', \"a, b\"\n", ["red", "a, b"]),
        ("image,answer\na,red\nb\n\n , \n", ["red", None]),
        ("image,answer,note\na,red,x,\nb,,,\n", ["red", ""]),  # a separator at each line's end
        (",image,answer\n0,a,red\n1,b,blue\n", ["red", "blue"]),  # the numbers of rows, as pandas writes them
    ],
)
def test_odd_tables_are_read_as_they_are_meant(tmp_path, content, answers):
    assert read(tmp_path, content)["answer"] == answers


def test_a_table_of_one_column_has_no_separator(tmp_path):
    rows = read(tmp_path, "question\nis it red?\nwhat?\n")
    assert rows.column_names == ["question"] and rows["question"] == ["is it red?", "what?"]


def test_a_separator_that_can_not_be_told_is_asked_for(tmp_path):
    content = "image;a,b;answer\n1.png;c,d;red\n"
    message = "the comma and the semicolon could each be .*--csv_separator comma"
    with pytest.raises(ValueError, match=message):
        read(tmp_path, content)
    assert read(tmp_path, content, csv_separator=";").column_names == ["image", "a,b", "answer"]
    assert read(tmp_path, content, csv_separator="comma").column_names == ["image;a", "b;answer"]
    assert read(tmp_path, "image:answer\n1:red\n", csv_separator=":")["answer"] == ["red"]


@pytest.mark.parametrize("separator", ["ab", "", '"', "x", "\n"])
def test_what_can_not_separate_cells_is_refused(separator):
    with pytest.raises(ValueError, match="csv_separator must be one character .*or one of comma, semicolon, tab, pipe"):
        DataArguments(csv_separator=separator)
    with pytest.raises(ValueError, match="csv_encoding must be the name of an encoding.*found 'utf9'"):
        DataArguments(csv_encoding="utf9")


def test_rows_are_named_as_spreadsheets_number_them(tmp_path):
    content = 'image,question,answer\n\na.png,"two\nlines",b\nc,d,e,f\n"x" y,d\ng,h,i\n'
    rows = read(tmp_path, content)
    named = ["row 3", "row 4 (line 5 of the text)", "row 5 (line 6 of the text)", "row 6 (line 7 of the text)"]
    assert [rows.places.name(row) for row in range(4)] == named
    assert rows.problems.keys() == {1, 2} and rows["answer"] == ["b", None, None, "i"]


GOOD = "0.png,which?,red,{}\n"
QUOTES = "write cells with ',' in them in quotes"
NUMBER = "; a comma within a number, such as 1,5, must be in quotes, or separate cells by semicolons"


@pytest.mark.parametrize(
    "names, rows, problem",
    [
        (
            "image,question,answer,",
            "0.png,how long?,1,5\n",
            "cell 4 has a value, '5', and its column has no name; .*NUMBER",
        ),
        ("image,question,answer,", GOOD + "1.png,how long?,1,5\n", "cell 4 has a value, '5', .* no name; .*NUMBER"),
        ("image,question,answer,,note", GOOD + "1.png,what?,red,blue,\n", "cell 4 has a value, 'blue'.*QUOTES$"),
        ("image,question,answer,note", "0.png,how long?,1,5,\n", "expected 4 cells, .* found 5; QUOTES.*NUMBER"),
        ("image,question,answer,note", GOOD + "1.png,how long?,1,5,\n", "expected 4 cells, .* found 5; .*NUMBER"),
        ("image,question,answer,note", "3.png,what?,left lung, right lung,\n", "expected 4 cells.* must too$"),
        ("image,question,answer,note", GOOD + "3.png,what?,left lung,right lung,\n", "expected 4 .* must too$"),
        ("image,question,answer", "0.png,how long?,1,5\n", "expected 3 cells.* found 4; QUOTESNUMBER"),
        ("image,question,answer", "0.png,which?,red,\n1.png,how long?,1,5,\n", "expected 3 cells.* found 4; .*NUMBER"),
        ("image,question,answer", "0.png,which?,red\n1.png,which?,red,\n", "expected 3 cells.* found 4; QUOTES"),
    ],
)
def test_a_comma_without_quotes_never_moves_a_value_into_another_column(tmp_path, names, rows, problem):
    problem = problem.replace("QUOTES", re.escape(QUOTES)).replace("NUMBER", re.escape(NUMBER))
    rows = read(tmp_path, f"{names}\n{rows.format('')}")
    last = len(rows) - 1
    assert list(rows.problems) == [last] and re.match(problem, rows.problems[last])
    assert rows["answer"] == ["red"] * last + [None]


def test_digits_side_by_side_are_suspicious_of_commas_alone(tmp_path):
    assert read(tmp_path, "image;answer;fold\na;3;1;\nb;2;1;\n")["fold"] == ["1", "1"]
    assert not read(tmp_path, "image,answer,fold\na,3,1\nb,2,1\n").problems


def test_empty_columns_without_names_are_left_out(tmp_path):
    assert read(tmp_path, "image,answer,,\na,red,,\n").column_names == ["image", "answer"]


@pytest.mark.parametrize("title", ["Quiz of 2024", "Quiz of 2024;;", "\nQuiz of 2024\n"])
@pytest.mark.parametrize("fields", [{}, {"csv_separator": ";"}])
def test_a_title_above_the_names_is_told(tmp_path, title, fields):
    message = (
        "a.csv: expected the names of the columns in its first row, found one cell there, 'Quiz of 2024', and more"
    )
    with pytest.raises(ValueError, match=message):
        read(tmp_path, f"{title}\nimage;question;answer\na;b;c\n", **fields)


def test_a_quote_that_is_never_closed_is_named_where_it_opens(tmp_path):
    with pytest.raises(ValueError, match=re.escape("a.csv row 3: a quote is opened and never closed")):
        read(tmp_path, 'image,answer\na,b\nc,"d\n' + "e,f\n" * 1000)


@given(
    rows=st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"])), min_size=3, max_size=3), min_size=1
    ),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_csv_writes_is_read_back_or_its_separator_asked_for(tmp_path, rows, separator, encoding):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=separator).writerows([["image", "question", "answer"], *rows])
    content = file.getvalue().encode(encoding)
    expected = [cells for cells in rows if any(cell.strip() for cell in cells)]
    found = read(tmp_path, content, csv_separator=separator)
    assert [list(row.values()) for row in values(found)] == expected
    with contextlib.suppress(ValueError):
        assert values(read(tmp_path, content)) == values(found)


def test_zero_characters_are_no_table(tmp_path):
    with pytest.raises(ValueError, match="a.csv has zero characters"):
        read(tmp_path, b"image,answer\na,\x00\n")

import pytest

from processing.written_lists import read_list


@pytest.mark.parametrize(
    "text, expected",
    [
        ("['red','red','blue']", ["red", "red", "blue"]),
        ('["red", "it\'s", null]', ["red", "it's", None]),
        ("['red', nan, None]", ["red", None, None]),
        ("['red' 'red'\n 'dark blue']", ["red", "red", "dark blue"]),  # numpy
        ("['red' None 'blue']", ["red", None, "blue"]),
        ("[nan nan]", [None, None]),
        ("[<NA>, NaT, '<NA>', '\\'<NA>']", [None, None, "<NA>", "'<NA>"]),
        ("[1, 2.5]", [1, 2.5]),
        ("[{'answer': 'red', 'answer_id': 1}]", [{"answer": "red", "answer_id": 1}]),
        ("[]", []),
        ("['red' 'blue', 'red']", None),  # to Python the first two are one text
        ("[red]", None),
        ("[1 2]", None),
        ("['red", None),
        ("[__import__('os')]", None),
        ("[" * 5000 + "]" * 5000, None),
    ],
)
def test_lists_are_read_as_json_python_and_numpy_write_them(text, expected):
    assert read_list(text) == expected

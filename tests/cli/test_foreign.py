import pytest

from dualvqa.cli.asking import shown


@pytest.mark.parametrize(
    "unfamiliar, said",
    [
        (None, "yes  50.0%"),
        ({"image": True, "question": False}, "yes  50.0%  image unlike what it was trained on"),
        ({"image": True, "question": True}, "yes  50.0%  image and question unlike what it was trained on"),
        ({"image": None, "question": None}, "yes  50.0%  image or question unlike what it was trained on"),
    ],
)
def test_ask_says_what_is_foreign(unfamiliar, said):
    answer = {"answer": "yes", "score": 0.5} | ({} if unfamiliar is None else {"unfamiliar": unfamiliar})
    assert shown(answer) == said

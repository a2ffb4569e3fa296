import pytest

from dualvqa.cli.asking import lines_of

REASON = "unlike what it was trained on: the score means nothing)"


@pytest.mark.parametrize(
    "unfamiliar, said",
    [
        (None, "yes  50.0%"),
        ({"image": True, "question": False}, f"not sure; best guess: yes  50.0%  (image {REASON}"),
        ({"image": True, "question": True}, f"not sure; best guess: yes  50.0%  (image and question {REASON}"),
        ({"image": None, "question": None}, f"not sure; best guess: yes  50.0%  (image or question {REASON}"),
    ],
)
def test_an_answer_to_what_is_foreign_is_a_guess_and_the_reason_is_said(unfamiliar, said):
    foreign = {} if unfamiliar is None else {"unfamiliar": unfamiliar}
    given = {"answer": "yes", "score": 0.5, **foreign}
    withheld = {"answer": None, "best_guess": "no", "score": 0.4, **foreign}
    assert lines_of([given, withheld]) == [said, "next guess: no  40.0%"]
    if foreign:
        assert lines_of([{**given, "answer": None, "best_guess": "yes"}]) == [said]


@pytest.mark.parametrize("count, lines", [(10, 11), (11, 13), (1197, 13)])
def test_of_a_large_set_the_most_probable_answers_are_shown_and_how_many_there_are(count, lines):
    answers = [{"answer": f"a{n}", "score": 1 / (n + 1), "coverage": 0.6} for n in range(count)]
    found = lines_of(answers, is_set=True)
    assert len(found) == lines and found[-1] == f"(one of these {count:,} is right in at least 60% of cases)"
    if count > 10:
        assert found[0] == f"{count:,} answers, the 10 most probable:" and found[1] == "a0  100.0%"
        assert found[-3] == "a9  10.0%" and found[-2] == f"and {count - 10:,} more; --json prints all"

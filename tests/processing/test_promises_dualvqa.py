"""What is promised of a question's answers, at the time of answering: thresholds, sets, groups."""

import math

import numpy as np
import pytest
import torch

from dualvqa_light.decoding import Decoder
from processing.promises_dualvqa import Promises, lowest_of

SETS = {"levels": {"0.5": 0.6, "0.8": 0.25, "0.9": 0.05}, "largest": 0.9}
BY_HEAD = {"by": "head", "groups": {"binary": {"threshold": 0.7}, "open_ended": None}}
LOGITS = {
    "binary_logits": [[0.0, 4.0], [0.0, 0.5], [0.0, 9.0]],
    "open_ended_logits": [[9.0, 0, 0], [9.0, 0, 0], [1.2, 1.0, -3.0]],
    "question_type_logits": [[9.0, 0], [9.0, 0], [0, 9.0]],
}


@pytest.fixture(params=["processor", "light"])
def answers(request, processor):
    """The same call of both runtimes."""

    def asked(calibration, **options):
        if request.param == "light":
            words = {"binary": ["no", "yes"], "open_ended": processor.answers}
            return Decoder(words, calibration)({n: np.array(v, np.float32) for n, v in LOGITS.items()}, **options)
        processor.calibration = calibration
        outputs = {name: torch.tensor(values) for name, values in LOGITS.items()}
        return processor.post_process_question_answering(outputs, **options)

    return asked


def test_a_set_has_all_answers_down_to_its_lowest_score_and_says_its_coverage(answers):
    found = answers({"sets": SETS}, coverage=0.8)
    assert [len(items) for items in found] == [1, 2, 2]
    assert {item["answer"] for item in found[1]} == {"no", "yes"}
    assert all(item["coverage"] == 0.8 and item["score"] >= 0.25 for items in found for item in items)
    assert [len(items) for items in answers({"sets": SETS}, coverage=0.5)] == [1, 1, 1]
    assert answers({"sets": SETS}, coverage=0.65)[1][0]["coverage"] == 0.65  # by the next larger level, 0.8
    assert [len(items) for items in answers({"sets": SETS}, coverage=0.65)] == [1, 2, 2]


def test_where_one_head_can_promise_nothing_its_best_answer_says_so(answers):
    sets = {"by": "head", "groups": {"binary": SETS, "open_ended": {"levels": {}, "largest": 0.3}}}
    found = answers({"sets": sets}, coverage=0.9)
    assert [[item["coverage"] for item in items] for items in found] == [[0.9], [0.9, 0.9], [None]]


def test_more_than_can_be_promised_is_refused_with_the_largest(answers):
    with pytest.raises(ValueError, match="coverage of 0.95 can't be promised: the largest is 0.9"):
        answers({"sets": SETS}, coverage=0.95)
    with pytest.raises(ValueError, match="needs sets of answers, and this model has none: calibrate it"):
        answers(None, coverage=0.9)
    for wrong in (0, 1, 90, "0.9", True):
        with pytest.raises(ValueError, match="coverage must be a number between 0 and 1"):
            answers({"sets": SETS}, coverage=wrong)
    with pytest.raises(ValueError, match="leave out top_k, found 3"):
        answers({"sets": SETS}, coverage=0.9, top_k=3)


def test_more_than_can_be_promised_to_a_group_is_refused_with_its_own_largest(answers):
    organs = {"HEAD": {"levels": {"0.5": 0.6, "0.62": 0.2}}, "CHEST": {"levels": {"0.71": 0.1}}, "ABD": None}
    largest = {
        "HEAD": "0.62 for HEAD, and 0.71 for the best group",
        "ABD": "0 for ABD, and 0.71 for the best group",
        None: "0.71",
    }
    for group, said in largest.items():
        with pytest.raises(ValueError, match=f"of 0.9 can't be promised: the largest is {said}. Right"):
            answers({"sets": {"by": "organ", "groups": organs}}, coverage=0.9, group=group)
    with pytest.raises(ValueError, match="is 0.71 for CHEST, 0.62 for HEAD, and 0.71 for the best group. Right"):
        answers({"sets": {"by": "organ", "groups": organs}}, coverage=0.9, group=["HEAD", None, "CHEST"])


def test_a_head_without_a_threshold_stays_unanswered_and_the_other_has_its_own(answers):
    found = answers({"abstention": BY_HEAD})
    assert [items[0]["answer"] for items in found] == ["yes", None, None]
    assert found[1][0]["best_guess"] == "yes" and found[2][0]["best_guess"] == "red"
    assert [items[0]["answer"] for items in answers({"abstention": BY_HEAD}, abstain=False)] == ["yes", "yes", "red"]


ORGANS = {"by": "organ", "groups": {"HEAD": {"threshold": 0.0}, "CHEST": {"threshold": 0.9}, "ABD": None, "1": None}}


def test_of_a_group_that_is_not_named_nothing_is_promised(answers):
    def given(group):
        return [items[0]["answer"] for items in answers({"abstention": ORGANS}, group=group)]

    assert given("HEAD") == ["yes", "yes", "red"] and given("CHEST") == ["yes", None, None]
    assert given("ABD") == given(None) == given(1) == [None, None, None]
    assert given(["HEAD", None, "CHEST"]) == ["yes", None, None]
    assert given(["CHEST", "HEAD", "HEAD"]) == ["yes", "yes", "red"]


def test_a_group_that_is_not_known_is_refused_with_those_that_are(answers):
    for promises in ({"abstention": ORGANS}, {"sets": {"by": "organ", "groups": {name: SETS for name in "AB"}}}):
        known = "1, ABD, CHEST, HEAD" if "abstention" in promises else "A, B"
        for wrong in ("chest", 5, math.nan, "", ["HEAD", "chest", None], {}):
            with pytest.raises(ValueError, match=f"a value of organ, .* were made: {known}; found"):
                answers(promises, group=wrong)
    with pytest.raises(ValueError, match="one for all questions, or a list of 3; found 2"):
        answers({"abstention": ORGANS}, group=["HEAD", "HEAD"])


@pytest.mark.parametrize("calibration", [None, {"abstention": BY_HEAD}, {"sets": SETS}])
def test_a_group_is_refused_where_no_promise_was_made_by_group(answers, calibration):
    for group in ("HEAD", ["HEAD", None, None], ""):
        with pytest.raises(ValueError, match="no promises by group, found group='.*leave group out, or .*--promise_by"):
            answers(calibration, group=group)
    assert answers(calibration, group=[None] * 3) == answers(calibration, group=None) == answers(calibration)


def test_that_a_group_is_needed_is_told_once(answers, caplog, request):
    organs = {**ORGANS, "by": request.node.name}  # that no other test has been told of
    answers({"abstention": organs}, abstain=False)
    answers({"abstention": organs}, group="HEAD")
    answers({"sets": {"by": "organ", "groups": {"HEAD": SETS}}})
    assert not caplog.records
    for _ in range(2):
        answers({"abstention": organs})
    (record,) = caplog.records
    assert f"by {request.node.name}. Nothing is promised to questions without a group" in record.message
    assert "1, ABD, CHEST, HEAD" in record.message


def test_many_groups_are_not_all_named():
    with pytest.raises(ValueError, match="g00, .*g19 and 10 more; found 'x'"):
        Promises({"sets": {"by": "ward", "groups": {f"g{n:02}": None for n in range(30)}}}, group="x")


def test_with_a_coverage_a_threshold_withholds_nothing_unless_that_is_asked(answers):
    calibration = {"abstention": {"threshold": 0.9}, "sets": SETS}
    assert None not in [item["answer"] for items in answers(calibration, coverage=0.8) for item in items]
    assert [items[0]["answer"] for items in answers(calibration, coverage=0.8, abstain=True)] == ["yes", None, None]


def test_the_lowest_score_is_that_of_the_next_larger_coverage():
    assert lowest_of(SETS, 0.9) == 0.05 and lowest_of(SETS, 0.81) == 0.05 and lowest_of(SETS, 0.2) == 0.6
    assert lowest_of(SETS, 0.91) is None and lowest_of(None, 0.5) is None
    assert Promises(None).threshold("binary") is None

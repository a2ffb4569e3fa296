"""Promises of a calibration, on logits whose right answers are known: for all questions, by head, by a column."""

import logging

import numpy as np
import pytest
import torch
from datasets import Dataset

from dualvqa.trust.abstention import choose_threshold
from dualvqa.trust.arguments import CalibrationArguments
from dualvqa.trust.calibration import LabelledLogits
from dualvqa.trust.promises import Judged, groups_of, make_promises

COUNT = 1200


@pytest.fixture(scope="module")
def drawn():
    """Logits that are true, half of them of each head; a fifth of the open-ended answers no head knows."""
    generator = torch.Generator().manual_seed(0)
    types = torch.arange(COUNT) % 2
    binary, open_ended = (3 * torch.randn(COUNT, n, generator=generator) for n in (2, 3))
    draw = [logits.softmax(-1).multinomial(1, generator=generator)[:, 0] for logits in (binary, open_ended)]
    router = 9.0 * torch.nn.functional.one_hot(types)
    outputs = {"binary_logits": binary, "open_ended_logits": open_ended, "question_type_logits": router}
    unknown = torch.rand(COUNT, generator=generator) < 0.2
    return outputs, types, draw, unknown


@pytest.fixture
def judged(processor, drawn):
    outputs, types, (yes, index), unknown = drawn
    words = ["purple" if lost else processor.answers[place] for place, lost in zip(index, unknown)]
    answers = [("no", "yes")[b] if t == 0 else word for t, b, word in zip(types, yes, words)]
    return Judged(LabelledLogits(processor, outputs, answers, [n // 4 for n in range(COUNT)]), {})


def args(**given):
    found = CalibrationArguments(**given)
    found.check_calibration()
    return found


def test_what_a_set_must_reach_is_the_right_answers_score(judged, drawn, processor):
    outputs, types, (yes, index), unknown = drawn
    share = torch.sigmoid(torch.tensor(9.0)).item()
    for row in range(60):
        head, right = (("binary", yes), ("open_ended", index))[types[row]]
        scores = outputs[f"{head}_logits"][row].softmax(-1)
        lost = types[row] == 1 and unknown[row]
        expected = -np.inf if lost else np.inf if scores.argmax() == right[row] else scores[right[row]].item() * share
        assert judged.reached[row] == pytest.approx(expected) and judged.heads[row] == head


def test_all_questions_have_one_promise_and_the_largest_coverage_is_told(judged):
    promised, figures = make_promises(judged, args(max_risk=0.2))
    chosen = promised["abstention"]
    answered = judged.scores >= chosen["threshold"]
    assert chosen["risk"] == pytest.approx(1 - judged.correct[answered].mean()) and chosen["risk_of"] == "answers"
    assert figures["coverage"] == pytest.approx(answered.mean()) and figures["risk_of"] == "answers"
    lost = np.isneginf(judged.reached).mean()
    assert figures["largest_coverage"] == pytest.approx(1 - (300 * lost + 1) / 301)
    inside = judged.reached >= promised["sets"]["levels"]["0.8"]
    assert 0.8 <= inside.mean() < 0.82
    assert "abstention" not in make_promises(judged, args())[0]


def test_the_share_of_all_questions_is_another_promise_than_that_of_the_answers(judged):
    promised, figures = make_promises(judged, args(max_risk=0.2, risk_of="questions"))
    wrong = (judged.scores >= promised["abstention"]["threshold"]) & (judged.correct < 1)
    assert 0.19 < wrong.mean() <= 0.2 and figures["coverage"] > 0.8 and figures["risk_of"] == "questions"


def test_each_head_has_its_own_promise(judged):
    promised, figures = make_promises(judged, args(max_risk=0.45, promise_by="head"), judged.heads)
    groups = promised["abstention"]["groups"]
    assert promised["abstention"]["by"] == promised["sets"]["by"] == "head" and set(groups) == {"binary", "open_ended"}
    for head, chosen in groups.items():
        assert chosen == {**choose_threshold(*judged.of(judged.heads == head), 0.45), "risk_of": "answers"}
    assert figures["binary_largest_coverage"] > 0.99 > 0.85 > figures["open_ended_largest_coverage"]


def test_a_group_of_few_questions_is_told_and_the_others_keep_their_promise(judged, caplog):
    organs = ["LEG" if row < 8 else "HEAD" for row in range(COUNT)]
    with caplog.at_level(logging.WARNING):
        promised, figures = make_promises(judged, args(max_risk=0.3, promise_by="organ"), organs)
    assert "LEG: its questions stay unanswered" in caplog.text and "found 8 questions about 2 images" in caplog.text
    groups = promised["abstention"]["groups"]
    assert groups["LEG"] is None and 0 < groups["HEAD"]["threshold"] < 1 and "LEG_threshold" not in figures
    assert promised["sets"]["groups"]["LEG"]["largest"] <= 1 - 1 / 3


def test_questions_without_a_group_are_told_and_get_no_promise(judged, caplog):
    organs = [(None, float("nan"), "HEAD", 1)[row % 4] for row in range(COUNT)]
    with caplog.at_level(logging.WARNING):
        promised, _ = make_promises(judged, args(max_risk=0.9, promise_by="organ"), organs)
    assert set(promised["abstention"]["groups"]) == set(promised["sets"]["groups"]) == {"HEAD", "1"}
    assert caplog.text.count("no value of organ") == 1 and "600 of 1200 questions" in caplog.text


@pytest.mark.parametrize(
    "given, message",
    [
        ({"risk_of": "questions"}, "--risk_of questions says what --max_risk is a share of: give --max_risk, or leave"),
        ({"calibrate": "false", "promise_by": "head"}, "--promise_by.* part of calibration; leave out --calibrate"),
    ],
)
def test_a_promise_that_nothing_would_read_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        CalibrationArguments(**given).check_calibration()


def test_a_column_that_is_not_there_is_refused_with_those_that_are(judged):
    rows = Dataset.from_dict({"organ": ["HEAD"] * COUNT})
    assert groups_of(judged, rows, "organ") == ["HEAD"] * COUNT and groups_of(judged, rows, None) is None
    with pytest.raises(ValueError, match="--promise_by oragn: expected head or a column of the data: organ"):
        groups_of(judged, rows, "oragn")
    with pytest.raises(ValueError, match="risk_of must be answers or questions, found 'rows'"):
        args(risk_of="rows")


def test_where_no_threshold_is_found_the_log_says_how_many_images_it_would_take(judged, caplog):
    few = judged
    few.scores, few.correct, few.images = few.scores[:160], few.correct[:160], few.images[:160]
    few.reached, few.heads = few.reached[:160], few.heads[:160]
    with caplog.at_level(logging.WARNING):
        promised, _ = make_promises(few, args(max_risk=0.2))
    assert "abstention" not in promised and "every question will be answered" in caplog.text
    assert "Give about" in caplog.text and "images in place of 40, a rough projection" in caplog.text


def test_where_more_images_would_not_help_that_is_the_one_advice_beside_what_would(judged, caplog):
    judged.correct = np.random.default_rng(0).permutation(np.arange(COUNT) % 2).astype(float)  # half wrong anywhere
    with caplog.at_level(logging.WARNING):
        make_promises(judged, args(max_risk=0.1))
    assert "more images like these would hardly help: give a larger max_risk, or risk_of questions:" in caplog.text
    assert "more validation questions" not in caplog.text.lower()
    answered = make_promises(judged, args(max_risk=0.1, risk_of="questions"))[1]["coverage"]
    assert f"{answered:.0%} of these could be answered" in caplog.text
    caplog.clear()
    judged.scores[:] = 1.0  # no answer is surer than another, and neither promise can be made
    make_promises(judged, args(max_risk=0.1))
    assert "would hardly help: give a larger max_risk" in caplog.text and "risk_of" not in caplog.text

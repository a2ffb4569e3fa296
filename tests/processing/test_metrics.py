import re

import evaluate
import numpy as np
import pytest
from datasets import Dataset
from helpers import ROOT
from transformers import EvalPrediction

from processing import AnswerMetrics, VQAAccuracy, majority_answers
from processing.metrics import answer_score


def compute(predictions, references):
    return VQAAccuracy(keep_in_memory=True).compute(predictions=predictions, references=references)


def test_answers_are_compared_as_normalised_strings():
    results = compute(["The Liver", "yes", "2", "left"], [["liver"], ["Yes."], ["two"], ["right"]])
    assert results["accuracy"] == 0.75
    assert results["binary_accuracy"] == 1.0 and results["binary_samples"] == 1
    assert results["open_ended_accuracy"] == pytest.approx(2 / 3) and results["open_ended_samples"] == 3


def test_several_people_count_up_to_three():
    people = ["cat"] * 2 + ["dog"] * 8
    assert answer_score("dog", people) == 1.0
    assert answer_score("cat", people) == pytest.approx(2 / 3)
    assert answer_score("cow", people) == 0.0
    assert answer_score("cat", ["cat", "dog"]) == 0.5
    assert answer_score("cat", ["cat"]) == 1.0
    assert answer_score("A cat.", [None, "Cat", ""]) == 1.0
    assert answer_score(None, ["none"]) == 0.0


@pytest.mark.parametrize("matches, official", [(1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0)])
def test_the_official_score_is_another(matches, official):
    people = ["cat"] * matches + ["dog"] * (10 - matches)
    others = [people[:left_out] + people[left_out + 1 :] for left_out in range(10)]
    assert sum(min(nine.count("cat") / 3, 1) for nine in others) / 10 == pytest.approx(official)
    assert answer_score("cat", people) == pytest.approx(min(matches / 3, 1))  # as its docstring says


def test_macro_f1_by_hand():
    # yes: precision 2/3, recall 1 -> 0.8; no: precision 1, recall 1/2 -> 2/3
    results = compute(["yes", "yes", "yes", "no"], [["yes"], ["yes"], ["no"], ["no"]])
    assert results["binary_macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)


def test_a_type_without_questions_has_no_figures():
    assert not [name for name in compute(["yes"], [["yes"]]) if name.startswith("open_ended")]


def test_majority_answers_are_those_of_the_training_part():
    assert majority_answers(["yes", "no", "no", "liver", "liver", "lung"]) == {"binary": "no", "open_ended": "liver"}


@pytest.fixture
def prediction():
    """Four questions: yes, red, blue, purple. The router sends the second to the wrong head."""
    binary = np.log([[0.2, 0.8], [0.1, 0.9], [0.5, 0.5], [0.5, 0.5]])
    open_ended = np.log([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.6, 0.2, 0.2]])
    types = np.log([[0.9, 0.1], [0.6, 0.4], [0.1, 0.9], [0.1, 0.9]])
    return EvalPrediction(predictions=(binary, open_ended, types), label_ids=None)


def test_oracle_routed_majority_and_coverage(processor, prediction):
    majority = {"binary": "yes", "open_ended": "blue"}
    metrics = AnswerMetrics(processor, ["Yes", "red", "blue", "purple"], majority)(prediction)
    assert metrics["oracle_accuracy"] == 0.75 and metrics["routed_accuracy"] == 0.5
    assert metrics["oracle_open_ended_accuracy"] == pytest.approx(2 / 3)
    assert metrics["routed_open_ended_accuracy"] == pytest.approx(1 / 3)
    assert metrics["router_accuracy"] == 0.75
    assert metrics["majority_accuracy"] == 0.5 and metrics["majority_open_ended_accuracy"] == pytest.approx(1 / 3)
    assert metrics["coverage"] == pytest.approx(2 / 3)


def test_an_answer_outside_the_vocabulary_is_always_wrong(processor, prediction):
    metrics = AnswerMetrics(processor, ["purple"] * 4)(prediction)
    assert metrics["oracle_accuracy"] == 0 and metrics["coverage"] == 0


def test_gaps_among_the_answers_of_a_row_are_left_out(processor, prediction):
    rows = [["Yes", None, ""], [None, "red"], "blue", "purple"]
    assert AnswerMetrics(processor, rows)(prediction) == AnswerMetrics(processor, ["Yes", "red", "blue", "purple"])(
        prediction
    )
    with pytest.raises(ValueError, match=r"row 2 of the references \(references\[1\]\) has no answer"):
        AnswerMetrics(processor, ["yes", [None, ""]])


def test_predictions_for_other_rows_are_refused(processor, prediction):
    with pytest.raises(ValueError, match="expected predictions for 3 rows, found 4"):
        AnswerMetrics(processor, ["yes"] * 3)(prediction)


def labelled(prediction, binary, open_ended, types):
    return EvalPrediction(prediction.predictions, tuple(map(np.array, (binary, open_ended, types))))


def test_labels_of_other_rows_are_refused_where_there_are_as_many(processor, prediction):
    metrics = AnswerMetrics(processor, ["Yes", "red", "blue", "purple"])
    right = labelled(prediction, [1, -100, -100, -100], [-100, 0, 2, -100], [0, 1, 1, 1])
    assert metrics(right)["oracle_accuracy"] == 0.75
    assert metrics(EvalPrediction(prediction.predictions, right.label_ids[1]))["oracle_accuracy"] == 0.75
    wrong = labelled(prediction, [1, -100, -100, -100], [-100, 0, 1, -100], [0, 1, 1, 1])
    with pytest.raises(ValueError, match="labels of 1 of 4 rows differ, first row 2, whose answer should be 'blue'"):
        metrics(wrong)


def test_metrics_are_made_for_the_rows_that_are_evaluated(processor, prediction):
    metrics = AnswerMetrics(processor, ["no"] * 4, {"binary": "yes", "open_ended": "blue"})
    rows = Dataset.from_dict({"answer": ["yes", "red", "blue", "purple"]})
    other = metrics.for_rows(rows)
    assert other(prediction)["oracle_accuracy"] == 0.75 and other(prediction)["majority_accuracy"] == 0.5
    assert other.for_rows(rows) is other and metrics(prediction)["oracle_accuracy"] == 0.5
    assert metrics.for_rows([{"input_ids": [1]}]) is metrics  # ready made
    with pytest.raises(ValueError, match="no answers to compare with: expected a column 'answer', found question"):
        metrics.for_rows(Dataset.from_dict({"question": ["is it red?"]}))


def test_evaluate_loads_the_metric_with_all_that_it_needs():
    """Each file that it is made of is imported by the one that is loaded: others are not taken along."""
    folder = ROOT / "processing" / "vqa_accuracy"
    text = (folder / "vqa_accuracy.py").read_text(encoding="utf-8")
    assert set(re.findall(r"^from \.(\w+) import", text, re.MULTILINE)) == {
        path.stem for path in folder.glob("*.py") if path.stem not in ("__init__", "vqa_accuracy")
    }
    metric = evaluate.load(str(folder))
    figures = metric.compute(
        predictions=["Ja", "cat"],
        references=[["ja"] * 3 + ["nein"] * 7, ["dog"] * 8 + ["cat"] * 2],
        metric="vqa",
        yes_answers=["ja"],
        no_answers=["nein"],
    )
    assert figures["binary_accuracy"] == pytest.approx(0.9) and figures["open_ended_accuracy"] == pytest.approx(0.6)

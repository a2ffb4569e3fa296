import json
import os
from pathlib import Path

import numpy as np
import pytest
from processes import run_code

from processing import VQAAccuracy
from processing.processing_dualvqa import BINARY_ANSWERS, QUESTION_TYPES
from processing.vqa_accuracy.answer_strings import question_type_of
from processing.vqa_accuracy.vqa_accuracy import TYPES

FOLDER = Path(__file__).parents[2] / "processing" / "vqa_accuracy"
PREDICTIONS = ["The Liver", "yes", "2", "left", "no"]
REFERENCES = ["liver", "Yes.", ["two", "2", "three"], ["right", "left"], ["yes"]]

# Anybody's process: this package can't be imported.
SCRIPT = """
import json, sys
import evaluate
metric = evaluate.load(sys.argv[1])
print(json.dumps(metric.compute(predictions=json.loads(sys.argv[2]), references=json.loads(sys.argv[3]))))
"""


def compute(references, predictions=PREDICTIONS, **rules):
    return VQAAccuracy(keep_in_memory=True).compute(predictions=predictions, references=references, **rules)


@pytest.mark.slow
def test_it_is_loaded_by_its_path_where_the_package_is_not(tmp_path):
    homes = {"HF_HOME": str(tmp_path / "cache"), "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    given = FOLDER, json.dumps(PREDICTIONS), json.dumps(REFERENCES)
    printed = run_code(SCRIPT, *given, folder=tmp_path, environment={**os.environ, **homes})
    assert json.loads(printed.splitlines()[-1]) == pytest.approx(compute(REFERENCES))


def test_references_are_strings_lists_or_both():
    assert compute(["liver", "yes", "2", "left", "yes"]) == compute([["liver"], ["yes"], ["2"], ["left"], ["yes"]])
    # right, right, 2 of 3, 1 of 2, wrong
    assert compute(REFERENCES)["accuracy"] == pytest.approx((1 + 1 + 2 / 3 + 1 / 2 + 0) / 5)
    one_by_one = VQAAccuracy(keep_in_memory=True)
    for prediction, reference in zip(PREDICTIONS, REFERENCES):
        one_by_one.add(prediction=prediction, reference=reference)
    assert one_by_one.compute() == compute(REFERENCES)


def test_another_number_of_references_is_refused():
    with pytest.raises(ValueError, match=r"Mismatch in the number of predictions \(5\) and references \(1\)"):
        compute(["liver"])


def test_numbers_are_read_as_text():
    assert compute([2, "2", ["two", 2, 3]], [2, np.int64(2), 2.0])["accuracy"] == pytest.approx((1 + 1 + 2 / 3) / 3)
    assert compute(np.array([1, 2]), np.array([1, 3]))["accuracy"] == 0.5


def test_a_question_left_unanswered_counts_as_wrong():
    results = compute(["none", "red", "nan"], [None, "red", float("nan")])
    assert results["accuracy"] == pytest.approx(1 / 3) and results["macro_f1"] == pytest.approx(1 / 3)


def test_gaps_among_the_references_are_no_references():
    results = compute([[None, None, "red"], ["", "none", "none", "none"]], ["none", "none"])
    assert results["accuracy"] == 0.5 and compute([[None, "red"]], ["red"])["accuracy"] == 1.0


@pytest.mark.parametrize(("metric", "f1"), [("exact", 1.0), ("vqa", 1.0), ("gqa", 0.5)])
def test_macro_f1_compares_as_the_metric_does(metric, f1):
    given = compute(["The dog", "cat"], ["dog", "cat"], metric=metric)
    assert given["macro_f1"] == given["accuracy"] == f1


@pytest.mark.parametrize("nothing", [None, "", [], [None, ""], float("nan")])
def test_a_question_that_nobody_answered_is_refused_with_its_row(nothing):
    with pytest.raises(ValueError, match=r"row 2 of the references \(references\[1\]\) has no answer"):
        compute(["red", nothing], ["red", "red"])


def test_what_is_no_answer_is_refused_with_its_row():
    with pytest.raises(ValueError, match=r"row 1 of the predictions .*must be text or a number, found list"):
        compute(["red"], [["red"]])
    with pytest.raises(ValueError, match=r"row 1 of the references .*must be text or a number, found dict"):
        compute([{"answer": "red"}], ["red"])


def test_its_question_types_are_those_of_the_processor():
    assert TYPES == QUESTION_TYPES
    assert {question_type_of(answer) for answer in BINARY_ANSWERS} == {0} and question_type_of("liver") == 1

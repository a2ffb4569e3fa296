"""GQA's figures: by hand, against plain loops over made questions, and from the set's files."""

import random

import numpy as np
import pytest
from datasets import Dataset
from made_sets import gqa_all
from transformers import EvalPrediction

from processing import AnswerMetrics, AnswerRules, DataArguments, prepare_datasets
from processing.gqa_scores import gqa_left_out, gqa_scores, read_list

COLORS = ["red", "green", "blue"]


def figures(metrics, answers):
    """Evaluates a model that gives these answers."""
    open_ended = np.log([[0.9 if color == answer else 0.05 for color in COLORS] for answer in answers])
    arrays = (np.log([[0.9, 0.1]] * len(answers)), open_ended, np.log([[0.2, 0.8]] * len(answers)))
    return metrics(EvalPrediction(arrays, None))


@pytest.fixture
def metrics(processor):
    processor.answers, processor.answer_rules = COLORS, AnswerRules(metric="gqa").saved()
    return AnswerMetrics(processor, [])


def test_the_figures_of_the_sets_files_are_those_worked_out_by_hand(metrics, tmp_path, caplog):
    gqa_all(tmp_path)
    data = DataArguments(dataset_name="gqa_all", data_dir=str(tmp_path), validation_fraction=0.0)
    rows = prepare_datasets(data, scores_test=True)[0]
    found = figures(metrics.for_rows(rows["validation"]), ["red", "red", "blue"])
    assert found["routed_accuracy"] == pytest.approx(2 / 3)
    assert {name: value for name, value in found.items() if name.startswith("gqa")} == {
        "gqa_accuracy": 0.5,  # question 3 is not balanced
        "gqa_open_accuracy": 1.0,
        "gqa_binary_accuracy": 0.0,
        "gqa_consistency": 0.5,  # of question 1, the only one that is right and entails others: 2 is wrong, 3 right
        "gqa_validity": 1.0,
        "gqa_plausibility": 0.0,
        "gqa_distribution": pytest.approx(((2 - 1) ** 2 / 1 + (0 - 1) ** 2 / 1) / 100),
    }
    (message,) = [text for text in caplog.messages if text.startswith("the test part")]  # testdev has no choices
    assert "--metric gqa" in message and "validity and plausibility (no column valid and plausible)" in message
    assert "consistency" not in message and "gqa_validity" not in figures(metrics.for_rows(rows["test"]), COLORS)


def test_they_are_those_of_plain_loops_over_made_questions():
    rng = random.Random(0)
    ids = [str(number) for number in range(300)]
    words = ["red", "green", "color", "yes"]
    questions = {
        name: {
            "entailed": rng.sample(ids, rng.randrange(4)),
            "structural": rng.choice(["query", "verify"]),
            "valid": rng.sample(words, 2),
            "plausible": rng.sample(words, 1),
            "detailed": rng.choice(["twoCommon", "colorQuery"]),
            "global": rng.choice([None, "a", "b"]),
            "isBalanced": rng.choice(["0", "1"]),
        }
        for name in ids
    }
    truth, said = ({name: rng.choice(words) for name in ids} for _ in range(2))
    scored = {name: question for name, question in questions.items() if question["isBalanced"] == "1"}
    consistent, valid, plausible, chi_square = [], 0, 0, 0
    for name, question in scored.items():
        others = [other for other in question["entailed"] if other != name]
        if said[name] == truth[name] and others:
            consistent.append(sum(said[other] == truth[other] for other in others) / len(others))
        common = ["color", "material", "shape"] if question["detailed"] == "twoCommon" else None
        valid += said[name] in (common or question["valid"])
        plausible += said[name] in (common or question["plausible"])
    grouped = [name for name, question in scored.items() if question["global"]]
    for group in "ab":
        of_group = [name for name in grouped if questions[name]["global"] == group]
        for word in {truth[name] for name in of_group}:
            expected = sum(truth[name] == word for name in of_group)
            observed = sum(said[name] == word for name in of_group)
            chi_square += len(of_group) * (observed - expected) ** 2 / expected
    columns = {column: [question[column] for question in questions.values()] for column in questions["0"]}
    found = gqa_scores({"question_id": ids, **columns}, list(said.values()), list(truth.values()))
    assert len(consistent) > 3
    assert found["gqa_consistency"] == pytest.approx(sum(consistent) / len(consistent))
    assert found["gqa_validity"] == pytest.approx(valid / len(scored))
    assert found["gqa_plausibility"] == pytest.approx(plausible / len(scored))
    assert found["gqa_distribution"] == pytest.approx(chi_square / len(grouped) / 100)


FULL = {
    "structural": ["query"] * 2,
    "question_id": ["1", "2"],
    "entailed": [["2"], []],
    "valid": [["red"]] * 2,
    "plausible": [["red"]] * 2,
    "global": ["a", None],
}


@pytest.mark.parametrize(
    ("change", "figure", "reason"),
    [
        ({"entailed": None}, "consistency", "no column entailed"),
        ({"entailed": [["2"], None]}, "consistency", "1 of 2 rows have no list in entailed"),
        ({"entailed": [["2", "3"], ["4"]]}, "consistency", "2 of 3 entailed questions are not among the rows"),
        ({"question_id": ["1", "1"]}, "consistency", "several rows have one question_id"),
        ({"valid": None}, "validity and plausibility", "no column valid"),
        ({"plausible": [None, None]}, "validity and plausibility", "2 of 2 rows have no list in plausible"),
        ({"global": [None, None]}, "distribution", "no row has a group"),
        ({"structural": None}, "open and binary accuracy", "no column structural"),
    ],
)
def test_what_the_data_do_not_have_is_left_out_and_said(change, figure, reason):
    assert not gqa_left_out(FULL, 2)
    columns = {name: values for name, values in {**FULL, **change}.items() if values is not None}
    reasons = gqa_left_out(columns, 2)
    assert list(reasons) == [figure] and reason in reasons[figure]
    lost = set(gqa_scores(FULL, ["red"] * 2, ["red"] * 2)) - set(gqa_scores(columns, ["red"] * 2, ["red"] * 2))
    assert lost and all(name.removeprefix("gqa_").split("_")[0][:5] in figure for name in lost)


def test_lists_may_be_written_as_json(metrics):
    assert read_list('["1", 2]') == read_list(["1", 2]) == ["1", "2"]
    assert read_list("1, 2") is read_list(None) is read_list("[1") is None
    columns = {"question_id": [1, 2], "entailed": ['["2"]', "[]"]}
    rows = Dataset.from_dict({"answer": ["red", "blue"], **columns})
    assert figures(metrics.for_rows(rows), ["red", "red"])["gqa_consistency"] == 0
    assert figures(metrics.for_rows(rows), ["red", "blue"])["gqa_consistency"] == 1

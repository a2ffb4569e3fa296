"""VizWiz's and GQA's own scores, by hand."""

import numpy as np
import pytest
from datasets import Dataset
from helpers import write_jsonl
from PIL import Image
from transformers import EvalPrediction

from processing import AnswerMetrics, AnswerRules, DataArguments, prepare_datasets


@pytest.fixture
def evaluated(processor):
    """Evaluates five questions, of which the answers are given, with the probabilities of the third answer."""

    def evaluate(metric, answers, sure, **columns):
        processor.answers = ["red", "A dog", "unanswerable"]
        processor.answer_rules = AnswerRules(metric=metric).saved()
        open_ended = np.log([[(1 - p) * 0.6, (1 - p) * 0.4, p] for p in sure])
        types = np.log([[0.2, 0.8]] * len(sure))
        rows = Dataset.from_dict({"answer": answers, **columns})
        arrays = (np.log([[0.9, 0.1]] * len(sure)), open_ended, types)
        return AnswerMetrics(processor, []).for_rows(rows)(EvalPrediction(arrays, None))

    return evaluate


def test_unanswerable_questions_are_found_by_the_probability_of_that_answer(evaluated):
    ten = [["unanswerable"] * 8 + ["red"] * 2, ["red"] * 10, ["unanswerable"] * 10, ["red"] * 10]
    figures = evaluated("vizwiz", ten, [0.9, 0.7, 0.6, 0.1], answerable=[0, 1, 0, 1])
    # ranked: unanswerable, answerable, unanswerable, answerable -> precision 1 at recall 1/2, 2/3 at recall 1
    assert figures["unanswerable_average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    # with the router's 0.8: 0.72, 0.56, 0.48, 0.08 -> of two that are above 0.5 one is right, and of two one is found
    assert figures["unanswerable_f1"] == pytest.approx(0.5)
    assert figures["routed_accuracy"] == pytest.approx((1 + 0 + 1 + 1) / 4)


def test_without_questions_of_both_kinds_it_is_said_that_there_is_no_score(evaluated, caplog):
    figures = evaluated("vizwiz", [["red"] * 10] * 2, [0.9, 0.1], answerable=[1, 1])
    assert "unanswerable_f1" not in figures and "can't be scored: it needs both kinds" in caplog.text


def test_gqa_compares_what_is_written_and_calls_all_but_queries_binary(evaluated):
    answers = ["red", "Red", "red", "unanswerable"]
    figures = evaluated("gqa", answers, [0.1] * 4, structural=["query", "query", "choose", "verify"])
    assert figures["routed_accuracy"] == 0.5  # Red isn't written as red
    assert figures["gqa_open_accuracy"] == 0.5 and figures["gqa_binary_accuracy"] == 0.5


def test_other_sets_have_no_such_figures(evaluated):
    figures = evaluated("exact", ["Red", "red"], [0.1] * 2, answerable=[0, 1], structural=["query", "choose"])
    assert figures["routed_accuracy"] == 1 and not [name for name in figures if name.startswith(("unans", "gqa"))]


def prepared(folder, metric, rows, part="validation"):
    """Reads some rows with an image each as one part, for a metric."""
    Image.new("RGB", (8, 8), "red").save(folder / "a.png")
    train = write_jsonl(folder / "train.jsonl", [{"image": "a.png", "question": "what?", "answer": "red"}])
    path = write_jsonl(folder / "rows.jsonl", [{"image": "a.png", "question": "what?", **row} for row in rows])
    files = {"train_file": str(train), f"{part}_file": str(path)}
    return prepare_datasets(DataArguments(**files, image_dir=str(folder), metric=metric, validation_fraction=0.0))[0]


@pytest.mark.parametrize(
    ("metric", "column", "values", "message"),
    [
        ("vizwiz", "answerable", [1, None, 0], "needs 0 or 1 in the column answerable .*a gap in 1 of 3 rows: line 2"),
        ("vizwiz", "answerable", ["yes", "1", "no"], "found 'yes', 'no' in 2 of 3 rows: line 1, line 3"),
        ("vizwiz", "answerable", [0.5, 1.0, 2.0], r"found 0.5, 2.0 in 2 of 3 rows"),
        ("gqa", "structural", ["query", None, "Verify"], "query or verify or .*found a gap, 'Verify' in 2 of 3"),
    ],
)
@pytest.mark.parametrize("part", ["validation", "test"])
def test_what_a_metric_cannot_read_in_its_column_is_refused_with_the_data(
    metric, column, values, message, part, tmp_path
):
    rows = [{"answer": "red", column: value} for value in values]
    with pytest.raises(ValueError, match=message):
        prepared(tmp_path, metric, rows, part)
    assert len(prepared(tmp_path, "exact", rows, part)[part]) == 3


@pytest.mark.parametrize("values", [[0, 1], [False, True], ["0", "1"], [0.0, 1.0]])
def test_answerable_is_0_or_1_however_written(values, evaluated, tmp_path, caplog):
    people = [["unanswerable"] * 10, ["red"] * 10]
    rows = [{"answer": answers, "answerable": value} for answers, value in zip(people, values)]
    assert len(prepared(tmp_path, "vizwiz", rows)["validation"]) == 2 and "left out" not in caplog.text
    assert evaluated("vizwiz", people, [0.9, 0.1], answerable=values)["unanswerable_f1"] == 1


def test_it_is_said_which_figures_a_lacking_column_costs(tmp_path, caplog):
    prepared(tmp_path, "vizwiz", [{"answer": ["red"] * 10}])
    assert "--metric vizwiz gives besides an accuracy these are left out" in caplog.text
    assert "the finding of unanswerable questions (no column answerable)" in caplog.text


def test_the_score_of_gqa_refuses_several_peoples_answers(evaluated, tmp_path):
    rows = [{"answer": ["red"]}, {"answer": ["red", "blue"]}]
    with pytest.raises(ValueError, match="answer of one person, and 1 of 2 rows of .* have several: line 2. Give"):
        prepared(tmp_path, "gqa", rows)
    with pytest.raises(ValueError, match="1 of 2 rows of the rows that are scored have several: row 1"):
        evaluated("gqa", [["red"], ["red", "red"]], [0.1] * 2)
    assert len(prepared(tmp_path, "gqa", rows[:1])["validation"]) == 1

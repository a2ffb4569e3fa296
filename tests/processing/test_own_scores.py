"""VizWiz's and GQA's own scores, by hand."""

import numpy as np
import pytest
from datasets import Dataset
from transformers import EvalPrediction

from processing import AnswerMetrics, AnswerRules


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

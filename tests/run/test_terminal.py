"""What a run reached, as the terminal shows it."""

import pytest
from datasets import Dataset

from dualvqa.run.terminal import figure_lines, memory_line, show_figures
from modeling_dualvqa.card_notes_dualvqa import memory_note
from processing import AnswerRules

FIGURES = {
    "eval_routed_accuracy": 0.8,
    "eval_routed_binary_accuracy": 0.9,
    "eval_routed_open_ended_accuracy": 0.6,
    "eval_oracle_accuracy": 0.825,
    "eval_oracle_binary_accuracy": 0.9,
    "eval_oracle_open_ended_accuracy": 0.675,
    "eval_majority_accuracy": 0.4,
    "eval_majority_binary_accuracy": 0.5,
    "eval_majority_open_ended_accuracy": 0.2,
    "eval_routed_macro_f1": 0.123,
    "eval_router_accuracy": 0.975,
    "eval_coverage": 0.955,
    "eval_runtime": 3.0,
}


def test_an_evaluation_is_a_sentence_and_a_table(capsys):
    rows = Dataset.from_dict({"answer": [["no"], ["yes"], ["red"]]})
    show_figures("eval", FIGURES, rows)
    assert capsys.readouterr().out.splitlines() == [
        "",
        "Validation part: 80.0% of 3 questions answered right; always the most frequent answer: 40.0%.",
        "                routed    oracle  majority   questions",
        "  yes/no         90.0%     90.0%     50.0%           2",
        "  open-ended     60.0%     67.5%     20.0%           1",
        "  all            80.0%     82.5%     40.0%           3",
        "  routed: what the model says by itself, oracle: what it says when told if it is a yes/no question, majority: "
        "always the most frequent answer",
        "  coverage: with this vocabulary the open-ended accuracy can be 95.5% at most",
        "  router: right for 97.5% of the questions",
    ]


@pytest.mark.parametrize(
    "answers, metric, said",
    [
        (["red", "no"], "exact", "80.0% of 2 questions answered right"),
        ([["red", "blue"], ["no"]], "exact", "accuracy 80.0% over 2 questions, each scored by how many people agree"),
        ([["red"] * 9, ["no"]], "vqa", "VQA accuracy 80.0% over 2 questions, each scored by how many people agree"),
        (["red", "no"], "gqa", "GQA accuracy 80.0% over 2 questions"),
    ],
)
def test_a_score_is_named_and_agreement_is_not_called_a_share_of_right_answers(answers, metric, said):
    lines = figure_lines("eval", FIGURES, Dataset.from_dict({"answer": answers}), rules=AnswerRules(metric=metric))
    assert lines[0] == f"Validation part: {said}; always the most frequent answer: 40.0%."


def test_the_own_figures_of_a_set_are_shares_but_for_a_chi_square_statistic():
    lines = figure_lines("eval", {**FIGURES, "eval_gqa_validity": 0.9, "eval_gqa_distribution": 1.25})
    assert "  besides: gqa validity 90.0%, gqa distribution 1.25 (lower is better)" in lines


def test_how_the_questions_were_held_out_is_said_in_short_and_then_in_numbers():
    mixed = "50.0% of the images, 20.0% of the questions in some wording and 10.0% word for word are in training"
    lines = figure_lines("eval", FIGURES, way=mixed)
    assert lines[0].startswith("Validation part (partly seen in training): 80.0%") and lines[-1] == f"  seen: {mixed}"
    lines = figure_lines("eval", FIGURES, way="held out by image")
    assert lines[0].startswith("Validation part (held out by image): 80.0%") and not lines[-1].startswith("  seen")


def test_a_model_with_one_head_and_without_training_answers_has_what_it_has():
    figures = {"test_routed_accuracy": 0.5, "test_routed_binary_accuracy": 0.5, "test_abstention_coverage": 0.25}
    assert figure_lines("test", figures) == [
        "Test part: 50.0% answered right.",
        "                routed",
        "  yes/no         50.0%",
        "  all            50.0%",
        "  routed: what the model says by itself",
        "  abstention: 25.0% of the questions answered",
    ]


def test_training_calibration_and_pre_training_are_a_sentence_each():
    (line,) = figure_lines("train", {"train_runtime": 192.0, "train_loss": 0.5, "epoch": 12.0})
    assert line == "Trained for 12 epochs in 3.2 minutes: mean loss 0.5."
    (line,) = figure_lines("train", {"train_runtime": 8.2, "train_loss": 0.5, "epoch": 0.5, "averaged_checkpoints": 3})
    assert line == "Trained for 0.5 epochs in 8 seconds: mean loss 0.5, the mean of 3 checkpoints."
    found = {
        "rows": 400,
        "images": 100,
        "routed_ece_before": 0.12,
        "routed_ece_after": 0.034,
        "binary_temperature": 1.5,
    }
    found |= {"threshold": 0.42, "coverage": 0.8, "max_risk": 0.1}
    assert figure_lines("calibration", {f"calibration_{name}": value for name, value in found.items()}) == [
        "Calibrated on 400 questions about 100 images: scores were off by 12.0% on average and now by 3.4%.",
        "Temperatures: yes/no 1.5.",
        "Below a score of 0.42 a question is left unanswered: 80.0% are answered, of which at most 10.0% wrongly.",
    ]
    (line,) = figure_lines("eval", {"eval_loss": 2.5, "eval_image_to_text_recall_at_1": 0.25, "eval_runtime": 3.0})
    assert line == "validation part: loss 2.5, image to text recall at 1 0.25"


@pytest.mark.parametrize(
    "with_it, said", [(0.2, "20.0%, which is less: --memory false trains without it."), (0.4, "40.0%.")]
)
def test_a_memory_that_helps_less_than_none_names_the_flag_without_it(with_it, said):
    figures = {"rows": 9, "held_out": "by image", "without": 0.3, "with": with_it}
    line = memory_line({"examples": 96, "images": 24}, {"memory": figures})
    assert f"the heads alone answer 30.0% right, with it and parameters of other images {said}" in line


def test_a_memory_says_whether_its_parameters_are_the_usual_ones_or_those_of_the_folds():
    memory, record = {"examples": 96, "images": 24}, {"memory": None}
    assert "its usual parameters" in memory_line(memory, record)
    assert "the usual ones" in memory_note(memory, record)
    for said in (memory_line, memory_note):
        line = said(memory, {**record, "cross_fit": {"folds": 3}})
        assert "median" in line and "3 folds" in line and "usual" not in line

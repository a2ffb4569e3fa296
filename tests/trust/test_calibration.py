"""Temperatures that are known, and what becomes of scores, files and runs that have them."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers import lines_of
from PIL import Image
from transformers import EvalPrediction

from dualvqa.run import main as run_vqa
from dualvqa.trust.calibration import (
    LabelledLogits,
    answer_names,
    answer_problems,
    before_and_after,
    fit_temperature,
    temperature_loss,
)
from dualvqa.trust.metrics import score_figures
from modeling_dualvqa import DualVQAForQuestionAnswering, DualVQAPipeline
from processing import AnswerMetrics, DualVQAProcessor

TEMPERATURES = {"binary": 3.0, "open_ended": 0.5, "question_type": 2.0}
ABSTENTION = {"threshold": 0.7, "max_risk": 0.1, "confidence": 0.95, "rows": 300}


def drawn(rows, answers, temperature, seed=0):
    """Logits of a model that is too sure by a factor, and answers drawn from its true probabilities."""
    generator = torch.Generator().manual_seed(seed)
    true = 2 * torch.randn(rows, answers, generator=generator)
    return true * temperature, torch.multinomial(true.softmax(-1), 1, generator=generator)[:, 0]


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("answers", [2, 12])
def test_a_known_temperature_is_found(temperature, answers):
    assert fit_temperature(*drawn(8000, answers, temperature)) == pytest.approx(temperature, rel=0.06)


@pytest.mark.parametrize("seed", range(5))
def test_the_likelihood_is_never_worse_and_the_fit_is_the_same_every_time(seed):
    logits, labels = torch.randn(60, 4, generator=torch.Generator().manual_seed(seed)), torch.arange(60) % 4
    found = fit_temperature(logits, labels)
    entropy = torch.nn.functional.cross_entropy
    assert entropy(logits / found, labels) <= entropy(logits, labels) and found == fit_temperature(logits, labels)


def test_answers_that_are_all_right_give_a_temperature_and_not_zero():
    labels = torch.arange(200) % 2
    found = fit_temperature(torch.nn.functional.one_hot(labels) * 4.0, labels)
    assert 0.1 < found < 1


@pytest.fixture
def labelled(processor):
    """6,000 questions about 1,000 images; both answering heads are too sure by their factors of `TEMPERATURES`."""
    types = torch.arange(6000) % 2
    router = 2 + torch.randn(6000, 2, generator=torch.Generator().manual_seed(3)).abs()
    router = router * torch.nn.functional.one_hot(types)  # always right
    binary, yes = drawn(6000, 2, 3.0, seed=1)
    open_ended, index = drawn(6000, 3, 0.5, seed=2)
    answers = [("no", "yes")[b] if t == 0 else processor.answers[o] for t, b, o in zip(types, yes, index)]
    outputs = {"binary_logits": binary, "open_ended_logits": open_ended, "question_type_logits": router}
    return LabelledLogits(processor, outputs, answers, [f"image {n // 6}" for n in range(6000)])


def test_answers_that_are_not_among_them_lower_the_scores_to_what_is_right():
    """Half of the answers are unknown: then the best answer is wrong, and scores must fall accordingly."""
    logits, labels = drawn(8000, 12, 1.0, seed=5)
    labels[::2] = -100
    found = fit_temperature(logits, labels)
    scores = (logits / found).softmax(-1).max(-1)
    right = (scores.indices == labels).double().mean()
    before = logits.softmax(-1).max(-1).values.mean() - right
    assert found > 1.3 and abs(scores.values.mean() - right) < before / 3


def test_each_head_learns_from_the_questions_of_its_type_alone(labelled):
    found = labelled.temperatures(["binary", "open_ended"])
    assert found["binary"] == pytest.approx(3, rel=0.1) and found["open_ended"] == pytest.approx(0.5, rel=0.1)
    rows = labelled.labels["binary"] >= 0
    assert found["binary"] == fit_temperature(labelled.outputs["binary_logits"][rows], labelled.labels["binary"][rows])
    assert labelled.problems() == {}


def test_the_error_of_an_over_confident_head_falls_below_half_on_images_it_was_not_fitted_on(labelled):
    before = labelled.errors(labelled.ranked({}))
    after = labelled.errors(labelled.cross_fitted(["binary", "open_ended"]))
    assert before["binary_ece"] > 0.08 and after["binary_ece"] <= before["binary_ece"] / 2
    assert after["binary_brier"] < before["binary_brier"] and after["routed_ece"] < before["routed_ece"]
    assert before_and_after(before, after)["binary_ece_after"] == after["binary_ece"]


def test_cross_fitting_never_scores_an_image_with_its_own_answers(labelled):
    """Answers about one image are turned into nonsense: its own scores must not change, and others' must."""
    before = labelled.cross_fitted(["open_ended"])["open_ended_scores"]
    rows = np.array([key == "image 7" for key in labelled.images])
    labels = labelled.labels["open_ended"]
    labels[rows] = torch.where(labels[rows] >= 0, (labels[rows] + 1) % 3, labels[rows])
    after = labelled.cross_fitted(["open_ended"])["open_ended_scores"]
    assert torch.equal(before[rows], after[rows]) and not torch.equal(before, after)


def test_an_answer_outside_the_vocabulary_counts_as_wrong(processor):
    outputs = {"binary_logits": torch.zeros(4, 2), "open_ended_logits": torch.tensor([[9.0, 0, 0]]).repeat(4, 1)}
    outputs["question_type_logits"] = torch.tensor([[0.0, 9.0]]).repeat(4, 1)
    labelled = LabelledLogits(processor, outputs, ["red", "red", "purple", "purple"], list("abcd"))
    assert labelled.temperatures(["open_ended"]) == {}  # one known answer, red
    errors = labelled.errors(labelled.ranked({}))
    assert errors["open_ended_ece"] == pytest.approx(0.5, abs=0.001) and "binary_ece" not in errors
    assert errors["open_ended_brier"] == pytest.approx(0.5, abs=0.01)


def test_too_few_questions_or_one_answer_are_told(processor):
    names = answer_names(processor)
    labels = {"binary": [1] * 80, "open_ended": [0, 1, 2] * 10 + [-100] * 50, "question_type": [0, 1] * 40}
    found = answer_problems(["binary", "open_ended", "question_type"], labels, range(80), names)
    assert found == {
        "binary": "all 80 questions have the answer 'yes'; two are needed",
        "open_ended": "30 questions about 30 images have an answer that it knows, and 50 about 5 are needed",
    }
    few_images = answer_problems(["question_type"], labels, [n % 4 for n in range(80)], names)
    assert "80 questions about 4 images" in few_images["question_type"]


# Its memory


def test_the_slope_of_the_likelihood_is_its_derivative():
    generator = torch.Generator().manual_seed(0)
    logits, labels = 3 * torch.randn(40, 6, generator=generator), torch.arange(40) % 7 - 1  # some unknown
    log_t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    log_p = (logits.double() / log_t.exp()).log_softmax(-1)
    known = labels >= 0
    wrong = 1 - log_p[~known].exp().max(-1).values
    plain = -log_p[known].gather(1, labels[known, None]).sum() - wrong.log().sum()
    plain.backward()
    loss, slope = temperature_loss(logits, labels, torch.arange(40), log_t.detach().exp())
    assert loss.item() == pytest.approx(plain.item()) and slope.item() == pytest.approx(log_t.grad.item())


# The processor


def random_outputs(rows=50):
    return {
        "binary_logits": 3 * torch.randn(rows, 2),
        "open_ended_logits": 3 * torch.randn(rows, 3),
        "question_type_logits": 3 * torch.randn(rows, 2),
    }


@pytest.mark.parametrize("factor", [0.01, 0.7, 1.0, 5.0, 40.0])
def test_temperatures_change_scores_but_neither_answers_nor_heads(processor, factor):
    outputs = random_outputs(500)
    plain = processor.post_process_question_answering(outputs)
    processor.calibration = {"temperatures": {name: factor * t for name, t in TEMPERATURES.items()}}
    found = processor.post_process_question_answering(outputs)
    for (before,), (after,) in zip(plain, found, strict=True):
        assert (before["answer"], before["question_type"]) == (after["answer"], after["question_type"])
        assert 0 <= after["score"] <= 1
    assert [b[0]["score"] for b in plain] != [a[0]["score"] for a in found]


def test_temperatures_divide_the_logits(processor):
    outputs = {"binary_logits": torch.tensor([[0.0, 3.0]]), "question_type_logits": torch.tensor([[2.0, 0.0]])}
    outputs["open_ended_logits"] = torch.zeros(1, 3)
    processor.calibration = {"temperatures": TEMPERATURES}
    ((best,),) = processor.post_process_question_answering(outputs)
    sigmoid = 1 / (1 + np.exp(-1.0))
    assert best == {"answer": "yes", "score": pytest.approx(sigmoid * sigmoid), "question_type": "binary"}


def test_below_the_threshold_questions_stay_unanswered_unless_that_is_switched_off(processor):
    outputs = random_outputs()
    plain = processor.post_process_question_answering(outputs, top_k=2)
    with pytest.raises(ValueError, match="abstain=True needs a threshold.*--max_risk"):
        processor.post_process_question_answering(outputs, abstain=True)
    processor.calibration = {"abstention": ABSTENTION}
    assert processor.post_process_question_answering(outputs, top_k=2, abstain=False) == plain
    found = processor.post_process_question_answering(outputs, top_k=2)
    assert processor.post_process_question_answering(outputs, top_k=2, abstain=True) == found
    withheld = 0
    for before, after in zip(plain, found, strict=True):
        if before[0]["score"] >= 0.7:
            assert after == before
            continue
        withheld += 1
        assert after == [{**item, "answer": None, "best_guess": item["answer"]} for item in before]
    assert 0 < withheld < len(plain)


def test_a_given_type_is_answered_as_surely_as_if_it_had_been_chosen(processor):
    """The score then leaves out the type's probability; the threshold was chosen on scores that have it."""
    outputs = {"binary_logits": torch.tensor([[0.0, 9.0]]), "open_ended_logits": torch.zeros(1, 3)}
    outputs["question_type_logits"] = torch.tensor([[0.4, 0.0]])
    processor.calibration = {"abstention": ABSTENTION}
    for question_type in (None, "binary"):
        ((best,),) = processor.post_process_question_answering(outputs, question_type=question_type)
        assert best["answer"] is None and best["best_guess"] == "yes"
    assert best["score"] > 0.99


def test_metrics_score_best_guesses_and_tell_what_is_answered(processor):
    binary = np.log([[0.2, 0.8], [0.45, 0.55], [0.4, 0.6], [0.1, 0.9]])
    types = np.full((4, 2), [9.0, 0.0])
    prediction = EvalPrediction(predictions=(binary, np.zeros((4, 3)), types), label_ids=None)
    references = ["yes", "yes", "no", "no"]
    plain = AnswerMetrics(processor, references, further=score_figures)(prediction)
    assert not [name for name in plain if name.startswith(("calibration", "abstention"))]
    processor.calibration = {"temperatures": {"binary": 1.1}, "abstention": ABSTENTION}
    found = AnswerMetrics(processor, references, further=score_figures)(prediction)
    assert {name: found[name] for name in plain} == plain
    assert found["abstention_coverage"] == 0.5 and found["abstention_risk"] == 0.5
    assert found["calibration_binary_ece_before"] != found["calibration_binary_ece_after"]


def test_of_thresholds_by_a_column_an_evaluation_tells_what_is_answered_too(processor):
    processor.answers = []
    organs = {"by": "organ", "groups": {"HEAD": {"threshold": 0.7}, "CHEST": {"threshold": 0.5}, "ABD": None}}
    processor.calibration = {"abstention": organs}
    prediction = EvalPrediction(np.log([[0.2, 0.8], [0.45, 0.55], [0.4, 0.6], [0.1, 0.9]]), label_ids=None)
    rows = Dataset.from_dict({"answer": ["yes", "yes", "no", "no"]})
    metrics = AnswerMetrics(processor, rows["answer"][:], further=score_figures)
    assert "abstention_coverage" not in metrics.for_rows(rows)(prediction)
    found = metrics.for_rows(rows.add_column("organ", ["HEAD", "HEAD", "CHEST", "ABD"]))(prediction)
    assert found["abstention_coverage"] == 0.5 and found["abstention_risk"] == 0.5


@pytest.fixture
def folder(tiny_model, processor, tmp_path):
    tiny_model().save_pretrained(tmp_path / "saved")
    processor.calibration = {"temperatures": TEMPERATURES, "abstention": {**ABSTENTION, "threshold": 0.99}}
    processor.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_saved_folder_keeps_it_and_saves_it_again(folder, processor, tmp_path):
    pipe = DualVQAPipeline(
        DualVQAForQuestionAnswering.from_pretrained(folder), DualVQAProcessor.from_pretrained(folder)
    )
    assert pipe.processor.calibration == processor.calibration
    image, question = Image.new("RGB", (9, 9), "red"), "is it red?"
    (best,) = pipe(image=image, question=question)
    (guess,) = pipe(image=image, question=question, abstain=False)
    assert best == {**guess, "answer": None, "best_guess": guess["answer"]}
    pipe.save_pretrained(tmp_path / "again")
    contents = [{path.name: path.read_bytes() for path in place.iterdir()} for place in (folder, tmp_path / "again")]
    assert contents[0] == contents[1]


def test_without_calibration_the_file_says_nothing_of_it(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    assert "calibration" not in json.loads((tmp_path / "processor_config.json").read_text())
    assert DualVQAProcessor.from_pretrained(tmp_path).calibration is None


# Runs


@pytest.mark.slow
def test_a_run_calibrates_reports_and_saves(recipe, image_folder, many, tmp_path, caplog):
    caplog.set_level("INFO")
    out = tmp_path / "out"
    flags = ["--validation_file", many, "--do_eval", "--do_predict", "--test_file", str(image_folder / "test.jsonl")]
    run_vqa.main([recipe(max_steps=60, learning_rate="1e-2"), *flags, "--max_risk", "0.05"])
    results = json.loads((out / "all_results.json").read_text())
    processor = DualVQAProcessor.from_pretrained(out)
    temperatures = processor.calibration["temperatures"]
    assert set(temperatures) == {"binary", "question_type"}
    assert "open-ended head: 40 questions about 40 images have an answer that it knows" in caplog.text
    assert "every question will be answered: no score threshold keeps at most 5.0%" in caplog.text
    assert results["calibration_binary_temperature"] == temperatures["binary"] and results["calibration_rows"] == 120
    for part in ("calibration", "test_calibration"):
        for name in ("binary_ece", "binary_brier", "open_ended_ece", "routed_ece"):
            assert 0 <= results[f"{part}_{name}_before"] and 0 <= results[f"{part}_{name}_after"]
    assert "eval_routed_accuracy" in results and "eval_calibration_binary_ece_before" not in results
    assert results["test_calibration_open_ended_ece_before"] == results["test_calibration_open_ended_ece_after"]
    card = (out / "README.md").read_text()
    assert "fitted on 120 validation questions about 40 images" in card and "has not been calibrated" not in card

    # The saved model is calibrated anew, with a threshold that is easy to keep; its weights stay as they are.
    again = tmp_path / "again"
    flags = ["--model_name_or_path", str(out), "--max_risk", "0.97", "--validation_file", many]
    flags += ["--do_predict", "--test_file", str(image_folder / "test.jsonl"), "--output_dir", str(again)]
    run_vqa.main([recipe(do_train=False, train_file=None), *flags])
    assert (again / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    chosen = DualVQAProcessor.from_pretrained(again).calibration["abstention"]
    assert chosen["max_risk"] == 0.97 and chosen["rows"] == 120 and chosen["images"] == 40
    results = json.loads((again / "all_results.json").read_text())
    assert results["calibration_threshold"] == chosen["threshold"]
    assert "stay unanswered" in (again / "README.md").read_text()
    answered = [line for line in lines_of(again / "predictions.jsonl") if line["answer"] is not None]
    left = [line for line in lines_of(again / "predictions.jsonl") if line["answer"] is None]
    assert len(answered) / (len(answered) + len(left)) == pytest.approx(results["test_abstention_coverage"])
    assert all(line["top_k"][0]["answer"] == line["best_guess"] for line in left)

    # Further training makes another model, which begins without it.
    flags = ["--model_name_or_path", str(again), "--output_dir", str(tmp_path / "further")]
    run_vqa.main([recipe(), *flags])
    assert DualVQAProcessor.from_pretrained(tmp_path / "further").calibration is None
    assert "calibration of the model that training goes on from is dropped" in caplog.text
    assert "has not been calibrated" in (tmp_path / "further" / "README.md").read_text()

    # And several answer with none of their members' calibration.
    flags = ["--model_name_or_path", str(again), "--ensemble_with", str(out), "--do_eval", "--validation_file", many]
    run_vqa.main([recipe(do_train=False), *flags, "--output_dir", str(tmp_path / "both")])
    assert not [n for n in json.loads((tmp_path / "both" / "all_results.json").read_text()) if "calibration" in n]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--calibrate", "true"], "can't be calibrated: the validation part is too small: yes/no head: . questions"),
        (["--calibrate", "true", "--validation_fraction", "0"], "no validation part with answers; give"),
        (["--calibrate", "perhaps"], "calibrate must be one of auto, true, false; found 'perhaps'"),
        (["--max_risk", "10"], "max_risk must be .*, above 0 and below 1; found 10"),
        (["--max_risk", "0.1", "--risk_confidence", "95"], "risk_confidence must be .*, at least 0.5"),
        (["--max_risk", "0.1", "--calibrate", "false"], "part of calibration"),
        (["--pretrain", "contrastive", "--calibrate", "true"], "--pretrain trains no heads"),
        (["--promise_by", "nope"], "--promise_by nope: expected head or a column of the data: .*question"),
        (["--cross_fit", "3", "--promise_by", "nope"], "--promise_by nope: expected head or a column of the data: "),
        (["--do_train", "false", "--max_risk", "0.1"], "need --model_name_or_path"),
        (
            ["--do_train", "false", "--max_risk", "0.1", "--model_name_or_path", "a", "--ensemble_with", "b"],
            "one saved",
        ),
    ],
)
def test_what_cannot_be_calibrated_is_refused_before_training(recipe, tmp_path, flags, message):
    with pytest.raises(SystemExit, match=message):
        run_vqa.main([recipe(), *flags])
    assert not (tmp_path / "out" / "config.json").exists()


@pytest.mark.slow
def test_a_small_validation_part_is_no_obstacle(recipe, tmp_path, caplog):
    caplog.set_level("INFO")
    run_vqa.main([recipe(), "--do_eval"])
    assert "scores stay as the model gives them: the validation part is too small" in caplog.text
    assert DualVQAProcessor.from_pretrained(tmp_path / "out").calibration is None

"""Distances and energies by direct computation, and the flag through saving, pipeline, ONNX and runs."""

import json

import numpy as np
import pytest
import torch
from helpers import lines_of, write_jsonl
from PIL import Image
from safetensors.torch import load_file

from dualvqa.deployment import onnx_export
from dualvqa.deployment.onnx_export import export_onnx
from dualvqa.deployment.onnx_pipeline import load_onnx_pipeline
from dualvqa.run import main as run_vqa
from dualvqa.trust.familiarity import fit_gaussian, fit_limits
from modeling_dualvqa import DualVQAForQuestionAnswering, DualVQAPipeline
from processing import DualVQAProcessor


@pytest.fixture
def states():
    """4,000 states of 16 numbers that depend on one another."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(4000, 16)) @ (np.eye(16) + 0.1 * rng.normal(size=(16, 16))) + 3


@pytest.fixture
def model(tiny_model, states):
    model = tiny_model(fusion_type="cross_attention")
    model.set_familiarity(*fit_gaussian(states))
    return model


def test_the_distance_is_mahalanobis(model, states):
    """Against the sample covariance, from which shrinkage is a small step with so many states."""
    new = np.random.default_rng(1).normal(size=(5, 16)) * 4
    centred = new - states.mean(axis=0)
    expected = np.einsum("bi,ij,bj->b", centred, np.linalg.inv(np.cov(states.T)), centred)
    found = model.familiarity(torch.tensor(new, dtype=torch.float32))
    np.testing.assert_allclose(found, expected, rtol=0.06)
    # In training states its mean is their width.
    assert model.familiarity(torch.tensor(states, dtype=torch.float32)).mean() == pytest.approx(16, rel=0.05)


def test_the_models_novelty_is_that_of_its_fused_state(model, batch):
    outputs = model(**batch)
    torch.testing.assert_close(outputs.novelty, model.familiarity(outputs.fused_state))
    assert outputs.novelty.shape == (4,)
    model.forget_familiarity()
    assert model(**batch).novelty is None and model.config.familiarity is False


@pytest.mark.parametrize(
    "states, message",
    [
        (np.zeros((3, 16)), "at least as many training states as they are wide, 16; found 3"),
        (np.ones((30, 16)), "all 30 training states are the same"),
        (np.where(np.arange(480).reshape(30, 16) == 40, np.nan, 1), "1 of 30 .* not finite, first that of question 2"),
    ],
)
def test_states_that_say_nothing_are_refused(states, message):
    with pytest.raises(ValueError, match=message):
        fit_gaussian(states)


def test_states_in_a_plane_can_be_fitted():
    states = np.random.default_rng(0).normal(size=(100, 2)) @ np.ones((2, 16))
    mean, whitening = fit_gaussian(states)
    assert whitening.isfinite().all() and mean.isfinite().all()


def test_the_energy_is_that_of_the_head_that_answers(processor):
    outputs = {"binary_logits": torch.randn(6, 2), "open_ended_logits": 30 * torch.randn(6, 3)}
    outputs["question_type_logits"] = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 3)
    found = processor.novelty(outputs)
    assert set(found) == {"binary_energy", "open_ended_energy"}
    for name, rows in (("binary", slice(0, 3)), ("open_ended", slice(3, 6))):
        expected = -np.log(np.exp(outputs[f"{name}_logits"][rows].double().numpy()).sum(axis=1))
        np.testing.assert_allclose(found[f"{name}_energy"][rows], expected, rtol=1e-5)
    assert (found["binary_energy"][3:] == -torch.inf).all()
    alone = processor.novelty({"open_ended_logits": outputs["open_ended_logits"]})
    assert alone["open_ended_energy"].isfinite().all()


def ordinary(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    types = (torch.arange(rows) % 2)[:, None] == torch.arange(2)
    return {
        "binary_logits": torch.randn(rows, 2, generator=generator),
        "open_ended_logits": torch.randn(rows, 3, generator=generator),
        "question_type_logits": 5.0 * types,
        "novelty": torch.randn(rows, 16, generator=generator).square().sum(dim=1),
    }


def test_about_one_ordinary_question_in_a_hundred_is_flagged_and_strange_ones_are(processor):
    limits, problems = fit_limits(processor, ordinary(2000, seed=0))
    assert set(limits) == {"distance", "binary_energy", "open_ended_energy"} and not problems
    processor.calibration = {"familiarity": limits}
    found = processor.post_process_question_answering(ordinary(4000, seed=1))
    assert sum(best[0].get("unfamiliar", False) for best in found) / 4000 == pytest.approx(0.01, abs=0.006)
    far = {**ordinary(50, seed=2), "novelty": torch.full((50,), 90.0)}
    assert all(best[0]["unfamiliar"] for best in processor.post_process_question_answering(far))
    faint = {**ordinary(50, seed=2), "binary_logits": torch.full((50, 2), -9.0)}
    found = [best[0].get("unfamiliar", False) for best in processor.post_process_question_answering(faint)]
    assert all(found[::2]) and not all(found[1::2])  # the others are not asked of that head


def test_limits_for_few_questions_are_not_pretended(processor):
    limits, problems = fit_limits(processor, ordinary(300, seed=0))
    assert set(limits) == {"distance"}
    assert problems["binary_energy"] == "150 questions found, 199 needed for 1% false alarms"


@pytest.fixture
def strict(processor):
    """Takes every question for unfamiliar."""
    processor.calibration = {"familiarity": {"distance": -1.0}}
    return processor


def test_the_flag_travels_in_the_saved_folder(model, strict, batch, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    strict.save_pretrained(tmp_path / "saved")
    again = DualVQAForQuestionAnswering.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(again(**batch).novelty, model(**batch).novelty)
    pipe = DualVQAPipeline(again, DualVQAProcessor.from_pretrained(tmp_path / "saved"))
    image = Image.new("RGB", (9, 9), "red")
    assert all(item["unfamiliar"] is True for item in pipe(image=image, question="is it red?", top_k=2))
    pipe.save_pretrained(tmp_path / "again")
    for path in (tmp_path / "saved").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    pipe.processor.calibration = {"familiarity": {"distance": 1e9}}
    assert "unfamiliar" not in pipe(image=image, question="is it red?")[0]


def test_half_precision_and_missing_buffers(model, batch, tmp_path):
    model.save_pretrained(tmp_path)
    half = DualVQAForQuestionAnswering.from_pretrained(tmp_path, dtype=torch.bfloat16)
    torch.testing.assert_close(half(**batch).novelty, model(**batch).novelty, rtol=0.1, atol=1.0)
    new = DualVQAForQuestionAnswering.from_pretrained(None, config=model.config, state_dict={})
    assert new.familiarity.whitening.abs().max() == 0


@pytest.mark.slow
def test_onnx_files_flag_and_abstain_too(quick_exports, model, processor, tmp_path):
    """Of 8 bits: the towers' states are near, and the distance is no further off for being computed from them."""
    image, question = Image.new("RGB", (40, 30), "red"), "is it red?"
    processor.calibration = {
        "temperatures": {"binary": 2.0},
        "abstention": {"threshold": 1.0},
        "familiarity": {"distance": -1.0},
    }
    export_onnx(model, tmp_path, processor, quantization="int8")
    (expected,) = DualVQAPipeline(model, processor)(image=image, question=question)
    pipe = load_onnx_pipeline(tmp_path, threads=1)
    (found,) = pipe(image=image, question=question)
    assert expected["answer"] is None and expected["unfamiliar"]
    assert found == {**expected, "score": pytest.approx(expected["score"], abs=0.02)}
    inputs = pipe.processor(images=image, text=question, return_tensors="pt")
    torch.testing.assert_close(pipe.model(**inputs).novelty, model(**inputs).novelty, rtol=0.1, atol=0.01)


def test_one_exported_head_leaves_the_threshold_of_both_behind(model, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "export_part", lambda part, path, size: path.write_bytes(b""))
    processor.calibration = {"temperatures": {"binary": 2.0}, "abstention": {"threshold": 1.0}}
    export_onnx(model, tmp_path, processor, heads=["binary"])
    assert DualVQAProcessor.from_pretrained(tmp_path).calibration == {"temperatures": {"binary": 2.0}}
    assert "abstention" in processor.calibration


@pytest.mark.slow
@pytest.mark.parametrize("single", [False, True])
def test_a_run_learns_what_is_familiar(recipe, image_folder, many, tmp_path, caplog, single):
    rows = lines_of(image_folder / "many.jsonl")
    more = write_jsonl(image_folder / "more.jsonl", rows * 4)
    out = tmp_path / "out"
    flags = ["--train_file", many, "--validation_file", more, "--do_eval", "--do_predict"]
    flags += ["--test_file", str(image_folder / "test.jsonl"), "--fit_familiarity", "--top_k", "1"]
    run_vqa.main([recipe(), *flags, *(["--single_head"] if single else [])])
    processor = DualVQAProcessor.from_pretrained(out)
    assert "distance" in processor.calibration["familiarity"]
    assert (out / "report.html").exists()
    results = json.loads((out / "all_results.json").read_text())
    assert results["calibration_distance_limit"] == processor.calibration["familiarity"]["distance"]
    assert DualVQAForQuestionAnswering.from_pretrained(out).familiarity.whitening.abs().max() > 0
    assert "flagged as `unfamiliar`" in (out / "README.md").read_text().replace("\n", " ")

    # Every question of a part without answers is flagged where the limit is below zero.
    settings = json.loads((out / "processor_config.json").read_text())
    settings["calibration"]["familiarity"] = {"distance": -1.0}
    (out / "processor_config.json").write_text(json.dumps(settings))
    test = write_jsonl(image_folder / "asked.jsonl", [{k: r[k] for k in ("image", "question")} for r in rows[:6]])
    flags = ["--model_name_or_path", str(out), "--do_predict", "--test_file", test, "--train_file", "no.jsonl"]
    asked = tmp_path / "asked"
    run_vqa.main([recipe(do_train=False, train_file=None), *flags[:-2], "--output_dir", str(asked)])
    assert [line["unfamiliar"] for line in lines_of(asked / "predictions.jsonl")] == [True] * 6

    with pytest.raises(SystemExit, match="--fit_familiarity need a train part, found validation; give --train_file"):
        run_vqa.main(
            [recipe(do_train=False, train_file=None), *flags[:2], "--validation_file", more, "--fit_familiarity"]
        )


@pytest.mark.slow
def test_too_few_training_questions_are_told_and_a_saved_model_learns_later(recipe, many, tmp_path, caplog):
    out, again = tmp_path / "out", tmp_path / "again"
    flags = ["--validation_file", many, "--fit_familiarity"]
    run_vqa.main([recipe(), *flags, "--train_fraction", "0.5"])
    assert "no question will be flagged as unfamiliar: expected at least as many training states" in caplog.text
    assert DualVQAForQuestionAnswering.from_pretrained(out).familiarity is None
    assert "binary" in DualVQAProcessor.from_pretrained(out).calibration["temperatures"]

    flags += ["--train_file", many, "--model_name_or_path", str(out), "--output_dir", str(again)]
    run_vqa.main([recipe(do_train=False), *flags])
    before, after = load_file(out / "model.safetensors"), load_file(again / "model.safetensors")
    assert set(after) - set(before) == {"familiarity.mean", "familiarity.whitening"}
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert "flagged as unfamiliar by its distance from the training questions: 120 questions found, 199" in caplog.text

    # Training goes on without.
    run_vqa.main([recipe(), "--model_name_or_path", str(again), "--output_dir", str(tmp_path / "further")])
    assert not [name for name in load_file(tmp_path / "further" / "model.safetensors") if "familiarity" in name]

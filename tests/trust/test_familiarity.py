"""Distances and energies by direct computation, and the flag through saving, pipeline, ONNX and runs."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import familiar, lines_of, write_jsonl
from PIL import Image
from safetensors.torch import load_file

from dualvqa.deployment import onnx_export
from dualvqa.deployment.onnx_export import export_onnx
from dualvqa.deployment.onnx_pipeline import load_onnx_pipeline
from dualvqa.run import main as run_vqa
from dualvqa.trust.familiarity import RIDGE, fit_tower, fit_towers, limit_of, reference_novelties
from dualvqa.trust.familiarity_fitting import refitted
from dualvqa.trust.foreign_inputs import EACH, foreign_images, foreign_questions
from modeling_dualvqa import DualVQAForQuestionAnswering, DualVQAPipeline
from modeling_dualvqa.familiarity_dualvqa import Familiarity
from processing import DualVQAProcessor
from processing.unfamiliar_dualvqa import earlier_scores


@pytest.fixture(scope="module")
def states():
    """Tower -> 400 states of 16 and 12 numbers that depend on one another."""
    generator = torch.Generator().manual_seed(0)
    mixing = {width: torch.eye(width) + 0.1 * torch.randn(width, width, generator=generator) for width in (16, 12)}
    return {
        tower: torch.randn(400, width, generator=generator) @ mixing[width] + 3
        for tower, width in (("image", 16), ("question", 12))
    }


@pytest.fixture(scope="module")
def foreign(states):
    """Tower -> two kinds, each shifted in a direction of its own."""
    found = {}
    for tower, own in states.items():
        shifts = 3 * torch.eye(own.shape[1])[:2]
        found[tower] = [own[:20] + shift for shift in shifts]
    return found


NEVER = {"image": False, "question": False}


@pytest.fixture
def model(tiny_model):
    """With the familiarity of random states of its towers' widths."""
    return familiar(tiny_model(fusion_type="cross_attention"))


@pytest.mark.parametrize("name", ["image", "question"])
def test_scores_are_those_of_their_formulas(states, foreign, name):
    own, kinds = states[name], foreign[name]
    tower = fit_tower(name, own, kinds)
    new = own[:5] * 2
    found = tower.scores(new)
    centred, mean = (new - own.mean(dim=0)).numpy(), own.mean(dim=0).numpy()
    distances = np.linalg.norm(centred, axis=1)
    np.testing.assert_allclose(found[:, 1], np.log(distances), atol=0.01)
    np.testing.assert_allclose(found[:, 2], -np.log(distances), atol=0.01)
    keys = own.numpy() - mean
    cosines = centred @ keys.T / distances[:, None] / np.linalg.norm(keys, axis=1)
    np.testing.assert_allclose(found[:, 0], 1 - cosines.max(axis=1), atol=0.02)
    covariance = np.cov(own.numpy().T, bias=True)
    ridge = RIDGE[name] * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    for place, kind in enumerate(kinds):
        within = covariance if name == "image" else (covariance + np.cov(kind.numpy().T, bias=True)) / 2
        direction = np.linalg.solve(within + ridge, kind.numpy().mean(axis=0) - mean)
        along = centred @ direction / ((own.numpy() - mean) @ direction).std()
        np.testing.assert_allclose(found[:, 3 + place], along, atol=0.05)


def test_what_is_too_far_too_near_in_another_direction_or_like_what_was_shown_is_foreign(states, foreign):
    familiarity, limits, problems = fit_towers(states, foreign, states, NEVER)
    assert not problems
    own = states["image"]
    tower, mean = familiarity["image"], own.mean(dim=0)
    novel = {
        "far": own[:20] * 6,
        "near": mean + 0.1 * (own[:20] - mean),
        "like what was shown": own[:20] + 6 * torch.eye(16)[0],
        "no number": torch.full((20, 16), torch.nan),
    }
    for name, vectors in novel.items():
        assert bool((~(tower(vectors) <= limits["image"])).all()), name
    assert (tower(own) > limits["image"]).float().mean() < 0.01


def test_about_one_ordinary_question_in_a_hundred_is_flagged(states, foreign):
    """Half for each tower, whether the limits are of held-out inputs or, with a frozen tower, of training by folds."""
    new = {tower: own[200:] for tower, own in states.items()}
    own = {tower: own[:200] for tower, own in states.items()}
    generator = torch.Generator().manual_seed(1)
    flagged = []
    for held_out, frozen in ((new, NEVER), ({t: s[:0] for t, s in new.items()}, {"image": True, "question": True})):
        familiarity, limits, problems = fit_towers(own, foreign, held_out, frozen)
        assert not problems
        for tower, states_of in states.items():
            centred = states_of - states_of.mean(dim=0)
            values = torch.linalg.cholesky(centred.T @ centred / len(centred))
            fresh = torch.randn(8000, len(values), generator=generator) @ values.T + states_of.mean(dim=0)
            flagged.append((familiarity[tower](fresh) > limits[tower]).float().mean().item())
    assert max(flagged) < 0.025 and 0.0005 < np.mean(flagged) < 0.012


def test_no_limit_is_below_what_the_tower_says_of_the_same_input(states, foreign):
    """A text that is asked often is then flagged each time, or never where it is one of those that give the limit."""
    own = states["question"]
    tower = fit_tower("question", own[:200], foreign["question"])
    limiting = reference_novelties(tower, tower.scores(own[200:]))
    assert (limiting >= tower(own[200:]) - 1e-6).all() and (limiting > tower(own[200:]) + 0.01).any()


@pytest.mark.parametrize(
    "values, expected", [(range(199), 198), (range(198), None), (range(399), 397), ([*range(199), np.nan], 198)]
)
def test_a_limit_is_the_order_statistic_that_keeps_its_promise(values, expected):
    limit, needed = limit_of(torch.tensor(list(values), dtype=torch.float64), 0.005)
    assert limit == expected and needed == 199


def test_limits_for_few_inputs_are_not_pretended(states, foreign):
    few = {"image": states["image"][:150], "question": states["question"][:300]}
    _, limits, problems = fit_towers(states, foreign, few, NEVER)
    assert set(limits) == {"question"}
    assert problems == {"image": "150 images found, 199 needed for 1% false alarms"}


@pytest.mark.parametrize(
    "states, message",
    [
        (torch.randn(1, 16), "at least 2 different training states, found 1"),
        (torch.ones(30, 16), "all 30 training states are the same"),
        (
            torch.where(torch.arange(480).reshape(30, 16) == 40, torch.nan, 1.0),
            "1 of 30 training states are not finite",
        ),
        (1e-5 * torch.randn(30, 16), "beyond float16"),
    ],
)
def test_states_that_say_nothing_are_refused(states, message):
    with pytest.raises(ValueError, match=message):
        fit_tower("image", states, [torch.ones(2, 16), torch.zeros(2, 16)])


def test_the_models_novelties_are_those_of_its_towers_states(model, batch):
    outputs = model(**batch)
    assert outputs.image_novelty.shape == outputs.question_novelty.shape == (4,) and outputs.novelty is None
    images = model.familiarity["image"](outputs.image_embeds[:, 0])
    mask = batch["attention_mask"][..., None]
    questions = model.familiarity["question"]((outputs.text_embeds * mask).sum(dim=1) / mask.sum(dim=1))
    torch.testing.assert_close(outputs.image_novelty, images[batch["image_index"]])
    torch.testing.assert_close(outputs.question_novelty, questions)
    model.forget_familiarity()
    outputs = model(**batch)
    assert outputs.image_novelty is None and outputs.question_novelty is None and model.config.familiarity is False


def judged(processor, limits, **novelties):
    """What is said of questions with these novelties."""
    processor.calibration = {"familiarity": limits}
    outputs = {"binary_logits": torch.zeros(len(next(iter(novelties.values()))), 2)}
    outputs |= {name: torch.tensor(values) for name, values in novelties.items()}
    return [best[0].get("unfamiliar") for best in processor.post_process_question_answering(outputs)]


def test_the_answer_says_what_is_foreign(processor):
    image, question = [0.0, 2.0, 0.0, 2.0, np.nan], [0.0, 0.0, 2.0, 2.0, 0.0]
    found = judged(processor, {"image": 1.0, "question": 1.0}, image_novelty=image, question_novelty=question)
    pairs = [(True, False), (False, True), (True, True), (True, False)]
    assert found == [None, *({"image": i, "question": q} for i, q in pairs)]
    found = judged(processor, {"image": 1.0}, image_novelty=image, question_novelty=question)
    assert found == [None, {"image": True, "question": None}, None] + 2 * [{"image": True, "question": None}]


def test_a_folder_of_an_earlier_version_says_that_something_is_foreign_and_not_what(processor, tiny_model, batch):
    assert judged(processor, {"distance": 1.0}, novelty=[0.5, 2.0]) == [None, {"image": None, "question": None}]
    model = tiny_model(familiarity=True)
    model.familiarity.mean += 1
    model.familiarity.whitening += torch.eye(16)
    outputs = model(**batch)
    expected = (outputs.fused_state - 1).square().sum(dim=-1)
    torch.testing.assert_close(outputs.novelty, expected)
    assert outputs.image_novelty is None


def test_limits_without_a_model_that_measures_are_told(processor, tiny_model, caplog):
    processor.calibration = {"familiarity": {"image": 1.0}}
    pipe = DualVQAPipeline(tiny_model(), processor)
    assert "the processor has limits for it and the model doesn't measure it" in caplog.text
    assert "unfamiliar" not in pipe(Image.new("RGB", (9, 9), "red"), "is it red?")[0]
    caplog.clear()
    DualVQAPipeline(familiar(tiny_model()), processor)
    assert "nothing is flagged" not in caplog.text


def test_the_energy_is_that_of_the_head_that_answers():
    outputs = {"binary_logits": torch.randn(6, 2), "open_ended_logits": 30 * torch.randn(6, 3)}
    outputs["question_type_logits"] = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 3)
    found = earlier_scores(outputs)
    assert set(found) == {"binary_energy", "open_ended_energy"}
    for name, rows in (("binary", slice(0, 3)), ("open_ended", slice(3, 6))):
        expected = -np.log(np.exp(outputs[f"{name}_logits"][rows].double().numpy()).sum(axis=1))
        np.testing.assert_allclose(found[f"{name}_energy"][rows], expected, rtol=1e-5)
    assert (found["binary_energy"][3:] == -torch.inf).all()
    alone = earlier_scores({"open_ended_logits": outputs["open_ended_logits"]})
    assert alone["open_ended_energy"].isfinite().all()


@pytest.fixture
def strict(processor):
    """Takes every question for unfamiliar."""
    processor.calibration = {"familiarity": {"image": -1e9, "question": 1e9}}
    return processor


def same_novelties(found, expected, **tolerance):
    for name in ("image_novelty", "question_novelty"):
        torch.testing.assert_close(found[name].float(), expected[name].float(), **tolerance)
    return True


def test_the_flag_travels_in_the_saved_folder(model, strict, batch, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    strict.save_pretrained(tmp_path / "saved")
    again = DualVQAForQuestionAnswering.from_pretrained(tmp_path / "saved")
    assert same_novelties(again(**batch), model(**batch))
    pipe = DualVQAPipeline(again, DualVQAProcessor.from_pretrained(tmp_path / "saved"))
    image = Image.new("RGB", (9, 9), "red")
    found = pipe(image=image, question="is it red?", top_k=2)
    assert [item["unfamiliar"] for item in found] == 2 * [{"image": True, "question": False}]
    pipe.save_pretrained(tmp_path / "again")
    for path in (tmp_path / "saved").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    pipe.processor.calibration = {"familiarity": {"image": 1e9, "question": 1e9}}
    assert "unfamiliar" not in pipe(image=image, question="is it red?")[0]


def test_half_precision_and_missing_buffers(model, batch, tmp_path):
    model.save_pretrained(tmp_path)
    half = DualVQAForQuestionAnswering.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert same_novelties(half(**batch), model(**batch), rtol=0.1, atol=0.2)
    assert half.familiarity["image"].keys.dtype == torch.float32
    new = DualVQAForQuestionAnswering.from_pretrained(None, config=model.config, state_dict={})
    assert new.familiarity["image"].keys.abs().max() == 0


@pytest.mark.slow
def test_onnx_files_flag_and_abstain_too(quick_exports, balanced_model, processor, tmp_path):
    """Of 8 bits: the towers' states are near, and the novelties no further off for being computed from them."""
    image, question = Image.new("RGB", (40, 30), "red"), "is it red?"
    processor.calibration = {
        "temperatures": {"binary": 2.0},
        "abstention": {"threshold": 1.0},
        "familiarity": {"image": -1e9, "question": 1e9},
    }
    model = copy.deepcopy(balanced_model)  # its parts are known: tests/deployment/test_onnx.py exports them
    export_onnx(model, tmp_path, processor, quantization="int8")
    (expected,) = DualVQAPipeline(model, processor)(image=image, question=question)
    pipe = load_onnx_pipeline(tmp_path, threads=1)
    (found,) = pipe(image=image, question=question)
    assert expected["answer"] is None and expected["unfamiliar"] == {"image": True, "question": False}
    assert found == {**expected, "score": pytest.approx(expected["score"], abs=0.02)}
    inputs = pipe.processor(images=image, text=question, return_tensors="pt")
    assert same_novelties(pipe.model(**inputs), model(**inputs), rtol=0.1, atol=0.2)


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
    assert set(processor.calibration["familiarity"]) == {"question"}  # 40 images are too few for a limit
    assert "no image will be flagged as unfamiliar: 40 images found, 199 needed for 1% false alarms" in caplog.text
    assert (out / "report.html").exists()
    results = json.loads((out / "all_results.json").read_text())
    assert results["calibration_question_limit"] == processor.calibration["familiarity"]["question"]
    assert DualVQAForQuestionAnswering.from_pretrained(out).familiarity["image"].keys.abs().max() > 0
    assert "flagged as `unfamiliar`, which says what is (the question)" in (out / "README.md").read_text()

    # Every question of a part without answers is flagged where the limit is low enough.
    settings = json.loads((out / "processor_config.json").read_text())
    settings["calibration"]["familiarity"] = {"question": -1e9}
    (out / "processor_config.json").write_text(json.dumps(settings))
    test = write_jsonl(image_folder / "asked.jsonl", [{k: r[k] for k in ("image", "question")} for r in rows[:6]])
    flags = ["--model_name_or_path", str(out), "--do_predict", "--test_file", test, "--train_file", "no.jsonl"]
    asked = tmp_path / "asked"
    run_vqa.main([recipe(do_train=False, train_file=None), *flags[:-2], "--output_dir", str(asked)])
    found = [line["unfamiliar"] for line in lines_of(asked / "predictions.jsonl")]
    assert found == [{"image": None, "question": True}] * 6

    with pytest.raises(SystemExit, match="--fit_familiarity need a train part, found validation; give --train_file"):
        run_vqa.main(
            [recipe(do_train=False, train_file=None), *flags[:2], "--validation_file", more, "--fit_familiarity"]
        )


@pytest.mark.slow
def test_too_few_training_questions_are_told_and_a_saved_model_learns_later(recipe, many, tmp_path, caplog):
    out, again = tmp_path / "out", tmp_path / "again"
    flags = ["--validation_file", many, "--fit_familiarity"]
    one = write_jsonl(tmp_path / "one.jsonl", [{**row, "image": "many_0.png"} for row in lines_of(Path(many))])
    run_vqa.main([recipe(train_file=one), *flags])
    assert (
        "nothing will be flagged as unfamiliar: expected at least 2 different training states, found 1" in caplog.text
    )
    assert DualVQAForQuestionAnswering.from_pretrained(out).familiarity is None
    assert "binary" in DualVQAProcessor.from_pretrained(out).calibration["temperatures"]

    flags += ["--train_file", many, "--model_name_or_path", str(out), "--output_dir", str(again)]
    run_vqa.main([recipe(do_train=False), *flags])
    before, after = load_file(out / "model.safetensors"), load_file(again / "model.safetensors")
    new = {name.split(".")[1] for name in set(after) - set(before)}
    assert new == {"image", "question"} and all("familiarity" in name for name in set(after) - set(before))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert "no question will be flagged as unfamiliar: 120 questions found, 199 needed" in caplog.text

    # Training goes on without.
    run_vqa.main([recipe(), "--model_name_or_path", str(again), "--output_dir", str(tmp_path / "further")])
    assert not [name for name in load_file(tmp_path / "further" / "model.safetensors") if "familiarity" in name]


@pytest.mark.slow
def test_made_foreign_inputs_are_the_same_every_time_and_of_several_kinds():
    first, again = foreign_images(), foreign_images()
    assert {kind: [image.tobytes() for image in images] for kind, images in first.items()} == {
        kind: [image.tobytes() for image in images] for kind, images in again.items()
    }
    assert all(len({image.tobytes() for image in images}) == EACH for images in first.values())
    assert max(np.asarray(image).mean() for image in first["dark"]) < 15 < 240 < np.asarray(first["light"][0]).mean()
    questions = foreign_questions()
    assert questions == foreign_questions() and all(len(set(kind)) == len(kind) > 30 for kind in questions.values())
    assert not any("|" in question or len(question) > 80 for kind in questions.values() for question in kind)
    assert set(questions) == {"everyday", "things", "language", "nonsense"}


def test_after_a_refit_the_scales_are_those_that_the_limits_were_found_on(states, foreign):
    before = fit_towers(states, foreign, states, NEVER)[0]
    others = {tower: own[::2] for tower, own in states.items()}
    after = refitted(others, foreign, before)
    for tower in states:
        assert torch.equal(after[tower].scale, before[tower].scale) and len(after[tower].keys) == 200
        torch.testing.assert_close(after[tower].mean, others[tower].mean(dim=0), atol=0.01, rtol=0)
    with pytest.raises(ValueError, match="of an earlier version's distance; calibrate the model anew"):
        refitted(others, foreign, Familiarity(16))


@pytest.mark.parametrize("image", [None, {"width": 4}, {"width": 4, "keys": 2, "key_width": "2", "directions": 1}])
def test_a_damaged_configuration_is_named(tiny_model, image):
    with pytest.raises(ValueError, match="familiarity of image must have directions, key_width, keys, width; found"):
        tiny_model(familiarity={"image": image})

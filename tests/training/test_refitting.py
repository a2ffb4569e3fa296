"""After all that needs held-out questions: training anew on all of them."""

import copy
import json

import pytest
import torch
from helpers import TINY
from helpers import data_arguments as data_of
from safetensors.torch import load_file
from training_helpers import training_arguments

from dualvqa import DualVQATrainer, build_model, load_model, prepare_datasets
from dualvqa.run import main as run_vqa
from dualvqa.training import refitting
from processing import held_out

PLAIN = {**TINY, "image_size": 32, "preset": "none"}
CALIBRATION = {"temperatures": {"binary": 2.0, "open_ended": 1.5, "question_type": 1.0}}


@pytest.fixture
def parts(image_folder):
    return prepare_datasets(data_of(image_folder, validation_fraction=0.25))[0]


@pytest.fixture
def make_trainer(parts, tmp_path):
    def make(**fields):
        model, processor = build_model(parts["train"], **PLAIN)
        sizes = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "refit": True}
        args = training_arguments(str(tmp_path / "run"), **{**sizes, **fields})
        data = {"train_dataset": parts["train"], "eval_dataset": parts["validation"]}
        return DualVQATrainer(model=model, processing_class=processor, args=args, **data)

    return make


@pytest.fixture
def trained(make_trainer):
    trainer = make_trainer()
    trainer.train()
    trainer.evaluate()
    trainer.processing_class.calibration = copy.deepcopy(CALIBRATION)
    trainer.save_model()
    return trainer


@pytest.mark.slow
def test_the_new_model_is_what_training_on_all_rows_gives(trained, make_trainer, tmp_path):
    start, first = copy.deepcopy(trained.untrained), copy.deepcopy(trained.model.state_dict())
    trained.refit()
    other = make_trainer(refit=False, output_dir=str(tmp_path / "other"))
    rows = refitting.all_rows(trained)
    fields = {"train_dataset": rows, "processing_class": trained.processing_class.without_calibration()}
    again = DualVQATrainer(model=start, args=other.args, **fields)
    again.train()
    saved = load_file(tmp_path / "run" / "model.safetensors")
    for name, tensor in again.model.state_dict().items():
        assert torch.equal(tensor, trained.model.state_dict()[name]) and torch.equal(tensor, saved[name]), name
    assert any(not torch.equal(tensor, saved[name]) for name, tensor in first.items())


@pytest.mark.slow
def test_what_was_found_with_held_out_questions_stays_and_is_said_to_be_of_the_first_model(trained, tmp_path):
    figures = (tmp_path / "run" / "eval_results.json").read_text()
    trained.refit()
    assert load_model(tmp_path / "run")[1].calibration == CALIBRATION
    card = (tmp_path / "run" / "README.md").read_text()
    assert "on all 16 questions about 8 images, those of the validation part too, for the same 3 steps" in card
    assert "The validation part is held out by image" in card
    trained.evaluate()  # of what it was trained on: that is no result
    assert (tmp_path / "run" / "eval_results.json").read_text() == figures
    trained.write_report()
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["refit"] in (tmp_path / "run" / "report.html").read_text().replace("\n", " ")
    assert report["parts"]["validation"]["held_out"] == "held out by image"
    with pytest.raises(ValueError, match="call calibrate\\(\\) before refit"):
        trained.calibrate()
    assert not (tmp_path / "run" / "refit").exists()


@pytest.mark.slow
def test_figures_of_a_test_part_are_of_the_new_model_and_compared_with_all_it_was_trained_on(trained, parts, tmp_path):
    test = parts["validation"].select([0])
    trained.evaluate(test, metric_key_prefix="test")
    trained.refit()
    assert "test" not in trained.model.config.model_card["results"] and "test" not in trained.last_outputs
    assert held_out(trained.leakage(test)).startswith("100.0% of the images")
    trained.evaluate(test, metric_key_prefix="test")
    assert "The figures of the test part are those of the new weights" in (tmp_path / "run" / "README.md").read_text()


@pytest.mark.slow
def test_it_ends_after_the_steps_of_the_best_state_in_the_schedule_of_all(make_trainer, monkeypatch):
    often = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    best = {
        "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
    }
    trainer, rates = make_trainer(**often, **best, logging_steps=1), []
    trainer.train()
    trainer.state.best_model_checkpoint = f"{trainer.args.output_dir}/checkpoint-2"
    monkeypatch.setattr(DualVQATrainer, "finish", lambda again, metrics: rates.extend(again.state.log_history))
    trainer.refit()
    assert trainer.model.config.model_card["refit"]["steps"] == 2
    assert [entry["learning_rate"] for entry in rates if "loss" in entry] == pytest.approx([1e-2, 1e-2 * 2 / 3])


@pytest.mark.slow
def test_a_refit_that_is_killed_leaves_the_first_model(trained, monkeypatch, tmp_path):
    before = contents_of_model(tmp_path / "run")

    def die(again, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr(DualVQATrainer, "begin_step", die)
    with pytest.raises(KeyboardInterrupt):
        trained.refit()
    assert contents_of_model(tmp_path / "run") == before
    assert trained.model.config.model_card.get("refit") is None and trained.refitted_on is None


@pytest.mark.slow
def test_a_training_that_starts_anew_leaves_no_checkpoint_of_an_earlier_refit(make_trainer, tmp_path):
    for name in ("refit", "blind"):
        (tmp_path / "run" / name / "checkpoint-2").mkdir(parents=True)
    make_trainer(max_steps=1).train()
    assert not list((tmp_path / "run").glob("*/checkpoint-*"))


def contents_of_model(folder):
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".safetensors", ".json", ".md")
    }


def test_a_refit_that_cannot_be_is_refused_before_anything_is_trained(make_trainer, recipe):
    trainer = make_trainer()
    with pytest.raises(ValueError, match="train\\(\\) has trained with DualVQATrainingArguments\\(refit=True\\)"):
        trainer.refit()
    trainer.args.auxiliary_columns = ["organ"]
    with pytest.raises(ValueError, match="the validation part lacks the auxiliary columns organ"):
        trainer.train()
    trainer.eval_dataset = None
    with pytest.raises(ValueError, match="there is no validation part with answers, so all questions are trained"):
        trainer.train()
    with pytest.raises(SystemExit, match="there is no validation part with answers"):
        run_vqa.main([recipe(), "--refit", "--validation_fraction", "0"])
    with pytest.raises(SystemExit, match="--refit needs --do_train, and can't be with --streaming"):
        run_vqa.main([recipe(), "--refit", "--streaming"])


def test_parts_with_one_and_with_several_answers_become_one(make_trainer, parts):
    several, trainer = parts["validation"].map(lambda row: {"answer": [row["answer"]]}), make_trainer()
    trainer.eval_dataset = several.add_column("own", [1] * len(several))
    rows = refitting.all_rows(trainer)
    assert len(rows) == 16 and "own" not in rows.column_names and rows["answer"][0] == [parts["train"]["answer"][0]]


@pytest.mark.slow
def test_a_run_writes_its_report_before_and_after(recipe, test_file, tmp_path, capsys):
    run = run_vqa.main([recipe(), "--refit", "--memory", "--do_eval", "--do_predict", "--test_file", test_file])
    assert "Trained anew on all 16 questions" in capsys.readouterr().out
    assert len(run.trainer.refitted_on) == 16
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["refit"].startswith("The weights were trained anew")
    assert len(run.model.memory) == 16 and "The model keeps 16 answered questions" in report["memory"]
    assert (tmp_path / "out" / "predictions.jsonl").exists()

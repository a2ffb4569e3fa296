"""Calibration on all training questions: each is scored by a model that was trained without its image."""

import numpy as np
import pytest
import torch
from helpers import TINY
from PIL import Image
from training_helpers import training_arguments

from dualvqa import DualVQATrainer, build_model, load_model
from dualvqa.run import main as run_vqa
from dualvqa.trust import cross_fitting
from dualvqa.trust.cross_fitting import OutOfFold, widened
from dualvqa.trust.fold_origin import begin, origin_of, take_up

PLAIN = {**TINY, "image_size": 32, "preset": "none"}
COLORS = ("red", "green", "blue", "gray")


def made_rows(images=24):
    """Four questions about each image; the answer to one of them no other image has."""
    rows = []
    for number in range(images):
        color = COLORS[number % 4]
        image = Image.new("RGB", (8, 8), (number * 10, 40, 255 - number * 10))
        asked = [("is it red?", "yes" if color == "red" else "no"), ("is it big?", ("no", "yes")[number % 2])]
        asked += [("what color is it?", color), ("what is its name?", f"name {number}")]
        rows += [{"image": image, "question": question, "answer": answer} for question, answer in asked]
    return rows


@pytest.fixture
def make_trainer(tmp_path):
    def make(rows=None, eval_dataset=None, **fields):
        rows = rows or made_rows()
        model, processor = build_model(rows, **PLAIN)
        sizes = {"max_steps": 2, "per_device_train_batch_size": 16, "learning_rate": 1e-2, "cross_fit": 3}
        args = training_arguments(str(tmp_path / "run"), **{**sizes, **fields})
        return DualVQATrainer(
            model=model, processing_class=processor, args=args, train_dataset=rows, eval_dataset=eval_dataset
        )

    return make


@pytest.mark.slow
def test_every_question_is_scored_by_a_model_that_saw_nothing_of_its_image(make_trainer, monkeypatch, tmp_path):
    """Recomputed for one fold: the same start, trained on the rows of the others by a trainer of its own."""
    trainer, seen = make_trainer(memory=True), []
    train_fold = cross_fitting.train_fold

    def watched(trainer, start, fold, resumes):
        known, held, numbers = cross_fitting.fold_rows(trainer, fold)
        seen.append((set(known["image_key"]), set(held["image_key"]), numbers.tolist()))
        return train_fold(trainer, start, fold, resumes)

    monkeypatch.setattr("dualvqa.trust.cross_fitting_of_trainer.train_fold", watched)
    trainer.train()
    assert all(not known & held for known, held, _ in seen)
    assert sorted(number for _, _, numbers in seen for number in numbers) == list(range(96))
    figures = trainer.calibrate(max_risk=0.9, risk_of="questions")
    assert figures["calibration_rows"] == 96 and figures["calibration_folds"] == 3
    rows, found = trainer.train_dataset, trainer.out_of_fold
    labelled = found.labelled(trainer.processing_class, rows)
    answers = rows["answer"][:]
    unknown = [answer for answer, label in zip(answers, labelled.labels["open_ended"]) if label < 0]
    assert {answer for answer in answers if answer.startswith("name")} <= set(unknown)  # each has one image
    assert figures["calibration_largest_coverage"] <= 1 - (24 * 0.25 + 1) / 25 + 1e-9
    _, processor = load_model(tmp_path / "run")
    assert processor.calibration == trainer.processing_class.calibration and "sets" in processor.calibration
    memory = trainer.model.memory.settings
    fitted = [fold["memory_temperature"].item() for fold in found.folds]
    assert memory["temperature"] == pytest.approx(np.median(fitted)) and memory["examples"] == 96
    assert trainer.model.config.model_card["cross_fit"] == {"folds": 3, "questions": 96, "images": 24, "steps": 2}
    assert "by cross-fitting" in (tmp_path / "run" / "README.md").read_text()


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_fold_by_fold(make_trainer, monkeypatch, tmp_path):
    trainer = make_trainer()
    train_fold, trained = cross_fitting.train_fold, []

    def stopped(trainer, start, fold, resumes):
        if fold == 2:
            raise KeyboardInterrupt
        return train_fold(trainer, start, fold, resumes)

    monkeypatch.setattr("dualvqa.trust.cross_fitting_of_trainer.train_fold", stopped)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    folds = tmp_path / "run" / "folds"
    assert sorted(path.name for path in folds.iterdir()) == ["0", "1"]
    assert [path.name for path in sorted((folds / "0").iterdir())] == ["origin.json", "outputs.safetensors"]
    monkeypatch.undo()
    fold_rows = cross_fitting.fold_rows
    monkeypatch.setattr(
        cross_fitting, "fold_rows", lambda trainer, fold: trained.append(fold) or fold_rows(trainer, fold)
    )
    again = make_trainer()
    again.train(resume_from_checkpoint=True)
    assert trained == [2] and again.state.global_step == 2 and len(again.out_of_fold.folds) == 3
    other = make_trainer(made_rows(30))
    with pytest.raises(ValueError, match="is of another training: .*training questions 96 .*start anew without"):
        other.train(resume_from_checkpoint=True)
    with pytest.raises(ValueError, match="cross_fit 3 there, 2 here"):
        make_trainer(cross_fit=2).train(resume_from_checkpoint=True)


def test_folds_of_another_training_are_refused_and_those_of_no_known_one_are_done_again(make_trainer, tmp_path, caplog):
    trainer, folder = make_trainer(), tmp_path / "fold"
    first = origin_of(trainer, trainer.model)
    begin(folder, first)
    args, config = trainer.args, trainer.model.config
    args.logging_steps, args.per_device_train_batch_size, args.gradient_accumulation_steps = 7, 8, 2
    take_up(folder, origin_of(trainer, trainer.model))
    for part, name, value, said in (
        (args, "learning_rate", 0.002, "learning_rate 0.01 there, 0.002 here"),
        (args, "seed", 7, "seed 42 there, 7 here"),
        (args, "gradient_accumulation_steps", 4, "questions per step 16 there, 32 here"),
        (config, "fusion_hidden_size", 48, "config.fusion_hidden_size 16 there, 48 here"),
    ):
        before = getattr(part, name)
        setattr(part, name, value)
        with pytest.raises(ValueError, match=f"is of another training: {said}. Give the settings"):
            take_up(folder, origin_of(trainer, trainer.model))
        setattr(part, name, before)
    (folder / "origin.json").rename(folder / "outputs.safetensors")
    take_up(folder, first)
    assert not folder.exists() and "doesn't say what training it is from" in caplog.text


def test_the_weights_of_a_saved_start_count_for_its_folds(make_trainer):
    trainer = make_trainer()
    trainer.model.start.continued_from = "runs/first"
    before = origin_of(trainer, trainer.model)
    assert origin_of(trainer, trainer.model) == before
    trainer.model.logit_scale_of_test = torch.nn.Parameter(torch.ones(1), requires_grad=False)
    after = origin_of(trainer, trainer.model)
    assert {name for name in after if after[name] != before.get(name)} == {"weights.model"}


def test_what_does_not_go_together_is_refused_before_anything_is_trained(make_trainer, recipe):
    with pytest.raises(ValueError, match="leave the validation part out"):
        make_trainer(eval_dataset=made_rows(3)).train()
    with pytest.raises(ValueError, match="3 folds need 6 different images or more, found 4"):
        make_trainer(made_rows(4)).train()
    with pytest.raises(ValueError, match="cross_fit must be a number of folds, at least 2; found 1"):
        make_trainer(cross_fit=1)
    for flags, message in (
        (["--folds", "3"], "leave out --folds and --fold"),
        (["--refit"], "leave out --refit, --fit_familiarity and --validation_file"),
    ):
        with pytest.raises(SystemExit, match=message):
            run_vqa.main([recipe(), "--cross_fit", "3", *flags])


def test_nothing_is_chosen_by_held_out_questions(make_trainer):
    best = {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"}
    args = make_trainer(**best, early_stopping_patience=2).args
    assert (args.eval_strategy, args.load_best_model_at_end, args.early_stopping_patience) == ("no", False, None)


def test_a_folds_logits_are_put_in_the_places_of_the_model_of_all(processor):
    processor.memory_answers = ["purple", "pink"]
    words = torch.tensor(list(b"pink\nwhite"), dtype=torch.uint8)
    logits = torch.tensor([[1.0, 2, 3, 4, 5]])  # red, green, blue, pink, and one that the model of all hasn't
    wide = widened(logits, {"words": words}, processor)
    assert wide[0, :3].tolist() == [1, 2, 3] and wide[0, 4] == 4 and wide[0, 3] < -20
    assert torch.equal(widened(logits[:, :3], {}, processor)[0, :3], logits[0, :3])


def test_each_fold_is_divided_by_its_own_temperature(processor):
    folds = [
        {
            "binary_logits": torch.full((2, 2), 6.0),
            "open_ended_logits": torch.zeros(2, 3),
            "question_type_logits": torch.zeros(2, 2),
            "unknown": torch.tensor([False, True]),
            "rows": torch.tensor(rows),
        }
        for rows in ([0, 3], [1, 2])
    ]
    found = OutOfFold([(fold, steps) for fold, steps in zip(folds, (5, 7))], 4)
    rows = {"answer": ["red", "no", "green", "blue"], "image_key": list("abcd")}
    labelled = found.labelled(processor, rows, [{"binary": 2.0}, {"binary": 3.0}])
    assert labelled.outputs["binary_logits"][:, 0].tolist() == [3, 2, 2, 3] and found.steps == 7
    assert labelled.labels["open_ended"].tolist() == [0, -100, -100, -100]

"""Runs that are killed, resumed, or whose disk is full."""

import json
import os
import resource
import shutil
from pathlib import Path

import pytest
import yaml
from helpers import TINY, write_jsonl
from training_helpers import assert_same_run, killed

from dualvqa.run import main as run_vqa
from dualvqa.trainer import DualVQATrainer
from dualvqa.training.checkpoints import find_checkpoint


@pytest.fixture
def recipe(settings, tmp_path):
    def write(**changes):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**settings, **changes}))
        return str(path)

    return write


# 5: right after logging. 7: the checkpoint is at the end of an epoch. 9: it lies between two logging steps.
@pytest.mark.slow
@pytest.mark.parametrize("step", [5, 7, 9])
def test_killed_and_resumed_is_as_if_nothing_had_happened(whole, recipe, tmp_path, step):
    arguments = [recipe(), "--output_dir", str(tmp_path / "killed")]
    killed("step", step, arguments)
    run_vqa.main([*arguments, "--resume_from_checkpoint", "true"])
    assert_same_run(whole, tmp_path / "killed")


@pytest.mark.slow
def test_a_checkpoint_that_was_being_written_is_passed_over(whole, recipe, tmp_path, caplog):
    folder = tmp_path / "killed"
    arguments = [recipe(), "--output_dir", str(folder)]
    killed("save", 8, arguments)
    assert (folder / "checkpoint-8" / "model.safetensors").exists()
    with pytest.raises(SystemExit, match="checkpoint-8 can't be resumed from: it has no trainer_state.json"):
        run_vqa.main([*arguments, "--resume_from_checkpoint", str(folder / "checkpoint-8")])
    run_vqa.main([*arguments, "--resume_from_checkpoint", str(folder)])
    assert "checkpoint-8 is passed over: it has no trainer_state.json" in caplog.text
    assert_same_run(whole, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json", "training_progress.json"])
def test_a_file_that_was_cut_short_is_noticed(whole, name, caplog):
    damaged = whole / "checkpoint-12" / name
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert find_checkpoint("true", whole) == os.fspath(whole / "checkpoint-10")
    assert f"checkpoint-12 is passed over: its {name}" in caplog.text


def test_where_nothing_can_be_resumed_it_says_so(recipe, tmp_path):
    with pytest.raises(SystemExit, match="there is no folder .*nowhere"):
        run_vqa.main([recipe(), "--output_dir", str(tmp_path), "--resume_from_checkpoint", str(tmp_path / "nowhere")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="no complete checkpoint in .*empty; start without the flag"):
        run_vqa.main([recipe(), "--output_dir", str(tmp_path), "--resume_from_checkpoint", str(tmp_path / "empty")])


@pytest.mark.slow
def test_a_full_disk_leaves_the_checkpoint_before(recipe, tmp_path, monkeypatch):
    """The size of files is limited after the second checkpoint, which fails the writing as a full disk does."""
    folder, limits = tmp_path / "full", resource.getrlimit(resource.RLIMIT_FSIZE)
    original = DualVQATrainer._save_checkpoint

    def save(trainer, *args):
        if trainer.state.global_step > 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            return original(trainer, *args)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(DualVQATrainer, "_save_checkpoint", save)
    arguments = [recipe(), "--output_dir", str(folder)]
    message = r"checkpoint-6 could not be written: .*--resume_from_checkpoint .*checkpoint-4"
    with pytest.raises(SystemExit, match=message):
        run_vqa.main(arguments)
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    assert find_checkpoint("true", folder) == os.fspath(folder / "checkpoint-4")


@pytest.mark.slow
def test_another_architecture_is_named(whole, recipe):
    arguments = [recipe(), "--output_dir", str(whole), "--resume_from_checkpoint", "true"]
    with pytest.raises(SystemExit, match="another architecture: fusion_type attention there, cross_attention here"):
        run_vqa.main([*arguments, "--config", "fusion_type=cross_attention"])


@pytest.mark.slow
def test_another_vocabulary_is_named(whole, recipe, settings):
    train = Path(settings["train_file"])
    rows = [json.loads(line) for line in train.read_text().splitlines()]
    for row in rows:
        row["answer"] = row["answer"].replace("green", "teal")
    write_jsonl(train, rows)
    with pytest.raises(SystemExit, match="another vocabulary: 3 answers there, 3 here, .* 1 are not .*first 'teal'"):
        run_vqa.main([recipe(), "--output_dir", str(whole), "--resume_from_checkpoint", "true"])


@pytest.mark.slow
def test_steps_that_are_cut_in_another_way_are_allowed_and_logged(whole, recipe, caplog):
    shutil.rmtree(whole / "checkpoint-12")
    again = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
    run_vqa.main([recipe(**again), "--output_dir", str(whole), "--resume_from_checkpoint", "true"])
    assert "written with 2 accumulation steps, training goes on with 1" in caplog.text
    assert "a step had" not in caplog.text
    assert json.loads((whole / "trainer_state.json").read_text())["global_step"] == 12


@pytest.mark.slow
@pytest.mark.parametrize("change", ["other answers", "fewer rows"])
def test_other_training_rows_are_allowed_and_told(whole, recipe, settings, caplog, change):
    shutil.rmtree(whole / "checkpoint-12")
    train = Path(settings["train_file"])
    rows = [json.loads(line) for line in train.read_text().splitlines()]
    if change == "fewer rows":
        rows = [row for row in rows if row["qid"] != -1 or row["image"] in ("0.png", "1.png", "2.png")]
    else:
        rows = [{**row, "answer": {"yes": "no", "No": "yes"}.get(row["answer"], row["answer"])} for row in rows]
    write_jsonl(train, rows)
    run_vqa.main([recipe(), "--output_dir", str(whole), "--resume_from_checkpoint", "true"])
    assert "checkpoint-10 was written while training on 12 questions, and training goes on with" in caplog.text
    assert ("goes on with other rows, 12:" in caplog.text) == (change == "other answers")


@pytest.mark.slow
def test_early_stopping_goes_on_counting(recipe, tmp_path):
    """Nothing gets better than the first evaluation, so patience 3 ends the run at epoch 4 of 8, resumed or not."""
    folder = tmp_path / "early"
    still = {"learning_rate": 0.0, "num_train_epochs": 8, "early_stopping_patience": 3, "save_strategy": "epoch"}
    changes = {**still, "load_best_model_at_end": True, "metric_for_best_model": "routed_accuracy"}
    arguments = [recipe(**changes, config={**TINY, "freeze_vision": True}), "--output_dir", str(folder)]
    killed("step", 8, arguments)
    run_vqa.main([*arguments, "--resume_from_checkpoint", "true"])
    assert json.loads((folder / "trainer_state.json").read_text())["epoch"] == 4


@pytest.mark.slow
def test_an_image_that_goes_during_the_run_is_named_and_so_is_the_checkpoint(recipe, tmp_path, monkeypatch, caplog):
    original = DualVQATrainer.end_step

    def end_step(trainer):
        original(trainer)
        if trainer.state.global_step == 4:
            for path in tmp_path.glob("*.png"):
                path.unlink()

    monkeypatch.setattr(DualVQATrainer, "end_step", end_step)
    with pytest.raises(SystemExit, match=r"error: .*\d\.png"):
        run_vqa.main([recipe(image_cache=False, eval_strategy="no"), "--output_dir", str(tmp_path / "gone")])
    assert "training has stopped; its last checkpoint is" in caplog.text and "checkpoint-4" in caplog.text

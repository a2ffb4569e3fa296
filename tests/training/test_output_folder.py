"""A run's folder: writable, held by one run, with a model that is whole."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training_helpers import training_arguments as arguments

from dualvqa.run import main as run_vqa
from dualvqa.trainer import DualVQATrainer
from dualvqa.training import output_folder
from dualvqa.training.checkpoints import CheckpointError
from dualvqa.training.output_folder import LOCK_NAME, claimed, written_whole
from dualvqa.training.recording import warn_of_earlier

HOLDER = """
import sys, time
from dualvqa.training.output_folder import claimed
with claimed(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_runs_in_one_folder_are_refused_and_a_killed_one_holds_nothing(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(output_folder, "PATIENCE", 0.1)
    folder = tmp_path / "out"
    root = Path(run_vqa.__file__).parents[2]
    command = [sys.executable, "-c", HOLDER, str(folder)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)})
    try:
        assert holder.stdout.readline() == "held\n"
        message = f"another run is at work in .*out, process {holder.pid} on .*: wait until it has ended"
        with pytest.raises(SystemExit, match=message):
            run_vqa.main([recipe()])
    finally:
        holder.kill()
        holder.wait()
    with claimed(folder), claimed(folder):  # the run and its trainer
        pass
    assert not (folder / LOCK_NAME).exists()


def test_a_folder_that_cannot_be_written_into_is_refused_before_the_data_are_read(recipe, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "out", "/proc/out"):
        with pytest.raises(SystemExit, match="output folder .* can't be written into"):
            run_vqa.main([recipe(train_file=str(tmp_path / "file")), "--output_dir", str(folder)])


def test_a_model_is_replaced_by_a_whole_one_or_not_at_all(tmp_path):
    (tmp_path / "model.safetensors").write_text("before")
    (tmp_path / "README.md").write_text("by hand")
    with pytest.raises(OSError, match="full"), written_whole(tmp_path) as folder:
        Path(folder, "model.safetensors").write_text("half")
        raise OSError("full")
    assert (tmp_path / "model.safetensors").read_text() == "before"
    with written_whole(tmp_path) as folder:
        assert Path(folder, "README.md").read_text() == "by hand"
        Path(folder, "model-00001-of-00002.safetensors").write_text("after")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "model-00001-of-00002.safetensors"]


def test_what_an_earlier_model_has_answered_stays_and_is_named(tmp_path, caplog):
    (tmp_path / "report.html").touch()
    warn_of_earlier(tmp_path)
    assert not caplog.text
    (tmp_path / "predictions.jsonl").touch()
    warn_of_earlier(tmp_path, ["predictions.jsonl"])  # the new model's take their place
    assert not caplog.text
    (tmp_path / "evaluation").mkdir()
    warn_of_earlier(tmp_path)
    told = f"predictions.jsonl and evaluation in {tmp_path} are of a model that was there before, not of this one"
    assert told in caplog.text and (tmp_path / "predictions.jsonl").exists()


@pytest.mark.slow
def test_a_full_disk_at_the_end_names_the_checkpoint_and_keeps_the_model_before(
    tiny_model,
    rows,
    tmp_path,
    monkeypatch,
):
    (tmp_path / "model.safetensors").write_text("before")
    saving = arguments(tmp_path, save_strategy="steps", save_steps=2, max_steps=2)
    trainer = DualVQATrainer(tiny_model(), saving, train_dataset=rows)
    trainer.train()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(trainer.model), "save_pretrained", full)
    message = "could not be written to .*No space left.*finish with --resume_from_checkpoint .*checkpoint-2"
    with pytest.raises(CheckpointError, match=message):
        trainer.save_model()
    assert (tmp_path / "model.safetensors").read_text() == "before"


@pytest.mark.slow
def test_a_full_disk_after_the_model_is_saved_says_where_it_is(recipe, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DualVQATrainer, "keep", full)
    with pytest.raises(SystemExit, match="No space left on device. The trained model is in .*out"):
        run_vqa.main([recipe()])
    assert (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.slow
def test_a_clock_that_is_set_back_changes_no_time(tiny_model, rows, tmp_path, monkeypatch):
    now = [1e9]

    def back():
        now[0] -= 100
        return now[0]

    trainer = DualVQATrainer(tiny_model(), arguments(tmp_path, max_steps=1), train_dataset=rows)
    monkeypatch.setattr(time, "time", back)
    metrics = trainer.train().metrics | trainer.evaluate(rows) | trainer.predict(rows).metrics
    for prefix in ("train", "eval", "test"):
        assert 0 < metrics[f"{prefix}_runtime"] < 60 and metrics[f"{prefix}_steps_per_second"] > 0


@pytest.mark.parametrize(
    "make", [lambda path: path.mkdir(), lambda path: path.symlink_to(path)], ids=["folder", "link"]
)
def test_a_lock_that_cannot_be_taken_is_named(tmp_path, make):
    make(tmp_path / LOCK_NAME)
    with (
        pytest.raises(ValueError, match=f"the lock of the output folder, .*{LOCK_NAME}, can't be taken"),
        claimed(tmp_path),
    ):
        pass


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a file that is always full")
def test_a_disk_that_is_full_after_training_is_told_with_the_file(recipe, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "train_results.json").symlink_to("/dev/full")
    message = "train_results.json could not be written: No space left on device. The trained model is in"
    with pytest.raises(SystemExit, match=message):
        run_vqa.main([recipe(max_steps=1)])
    assert (folder / "model.safetensors").exists()

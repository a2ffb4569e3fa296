"""Runs that are stopped by Ctrl-C or SIGTERM."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest
import yaml
from helpers import ROOT, write_images
from processes import as_main_of_a_group, begun
from training_helpers import assert_same_run, log_of, long_run

from dualvqa.run import main as run_vqa
from dualvqa.trainer import DualVQATrainer
from dualvqa.training.checkpoints import all_checkpoints
from dualvqa.training.interruption import MARK


@pytest.fixture
def recipe(settings, tmp_path):
    def write(**changes):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**settings, "eval_strategy": "no", **changes}))
        return str(path)

    return write


@pytest.fixture
def interrupt(monkeypatch):
    """Lets a method of the Trainer send a signal to this process once it is called at a step."""

    def at(step, method="begin_step", number=signal.SIGINT):
        original = getattr(DualVQATrainer, method)

        def replacement(trainer, *args, **kwargs):
            if trainer.state.global_step == step:
                monkeypatch.setattr(DualVQATrainer, method, original)
                os.kill(os.getpid(), number)
            return original(trainer, *args, **kwargs)

        monkeypatch.setattr(DualVQATrainer, method, replacement)

    return at


def names(folder):
    return sorted(path.name for path in folder.glob("checkpoint-*"))


AVERAGED = {"save_total_limit": 2, "average_checkpoints": 2, "save_steps": 4, "eval_strategy": "epoch"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that was not interrupted."""
    folder = write_images(tmp_path_factory.mktemp("averaged"))
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**long_run(folder), **AVERAGED}))
    run_vqa.main([str(folder / "recipe.yaml"), "--output_dir", str(folder / "out")])
    return folder / "out"


# 4: a checkpoint more. 5: the step is the last of its epoch, after which there is an evaluation. 7: one is due anyway.
@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 5, 7])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(whole, recipe, interrupt, tmp_path, capsys, step):
    before, stopped = signal.getsignal(signal.SIGINT), tmp_path / "stopped"
    arguments = [recipe(**AVERAGED), "--output_dir", str(stopped)]
    interrupt(step)
    with pytest.raises(SystemExit) as exit_:
        run_vqa.main(arguments)
    assert exit_.value.code == 130
    said = capsys.readouterr().err
    assert f"stopped after step {step + 1} of 12, with the checkpoint {stopped}/checkpoint-{step + 1}." in said
    assert "--resume_from_checkpoint true" in said
    assert (stopped / f"checkpoint-{step + 1}" / MARK).exists() == (step + 1 != 8)
    assert signal.getsignal(signal.SIGINT) is before
    run_vqa.main([*arguments, "--resume_from_checkpoint", "true"])
    assert names(stopped) == names(whole) == ["checkpoint-12", "checkpoint-8"]
    assert_same_run(whole, stopped)
    assert log_of(stopped) == log_of(whole)


@pytest.mark.slow
def test_a_signal_during_an_evaluation_stops_after_it(recipe, interrupt, tmp_path):
    interrupt(6, "evaluation_loop", signal.SIGTERM)
    with pytest.raises(SystemExit) as exit_:
        run_vqa.main([recipe(eval_strategy="epoch", save_strategy="no"), "--output_dir", str(tmp_path / "out")])
    assert exit_.value.code == 143
    assert names(tmp_path / "out") == ["checkpoint-6"]
    state = json.loads((tmp_path / "out" / "checkpoint-6" / "trainer_state.json").read_text())
    assert state["log_history"][-1]["eval_loss"] > 0 and state["log_history"][-1]["step"] == 6


@pytest.mark.slow
def test_a_second_interrupt_stops_at_once(recipe, interrupt, tmp_path, capsys):
    interrupt(4, "begin_step")
    interrupt(4, "compute_loss")
    with pytest.raises(SystemExit) as exit_:
        run_vqa.main([recipe(save_strategy="no"), "--output_dir", str(tmp_path / "out")])
    assert exit_.value.code == 130 and "interrupted" in capsys.readouterr().err
    assert not all_checkpoints(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_that_is_stopped_from_outside_says_how_to_go_on(recipe, tmp_path, number, code):
    out = tmp_path / "out"
    flags = ["--max_steps", "100000", "--logging_steps", "1", "--dataloader_num_workers", "1"]
    command = [recipe(), "--output_dir", str(out), *flags]
    with tempfile.NamedTemporaryFile("r") as output:
        process = begun(as_main_of_a_group, str(ROOT / "run_vqa.py"), command, output=output)
        deadline = time.monotonic() + 300
        while not names(out) and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.2)
        os.killpg(process.pid, number)  # as a terminal does, also to the workers
        process.join(120)
        errors = output.read()
    assert process.exitcode == code, errors
    assert "Traceback" not in errors and errors.count("stopping after this step") == 1
    (said,) = [line for line in errors.splitlines() if line.startswith("stopped after step")]
    assert "--resume_from_checkpoint true" in said and said.split("checkpoint ")[1].split(".")[0] in map(
        str, out.glob("checkpoint-*")
    )


SLOW_LIBRARY = """
import time
print("imported", flush=True)
try:
    time.sleep(120)
except KeyboardInterrupt:
    raise ImportError("what a library makes of it")
"""


def test_while_libraries_are_imported_nothing_is_kept_and_there_is_no_traceback(recipe, tmp_path):
    (tmp_path / "libraries").mkdir()
    (tmp_path / "libraries" / "accelerate.py").write_text(SLOW_LIBRARY)
    command = [sys.executable, ROOT / "run_vqa.py", recipe(), "--output_dir", tmp_path / "out"]
    options = {"env": {**os.environ, "PYTHONPATH": str(tmp_path / "libraries")}, "text": True}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(list(map(str, command)), **pipes, **options) as process:
        assert process.stdout.readline() == "imported\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors.strip()) == (130, "interrupted")
    assert not (tmp_path / "out").exists()

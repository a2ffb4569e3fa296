"""The same recipe is the same run, however its batches are cut: real processes, with gloo between them."""

import functools
import json
import os
import signal
import sys
import tempfile

import distributed_interruption
import distributed_predictions
import distributed_steps
import pytest
import torch
import yaml
from helpers import ROOT, TESTS, TINY
from processes import as_main, begun, forked
from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler
from training_helpers import start

from dualvqa.run import main as run_vqa

pytestmark = pytest.mark.slow
# processes, accumulation steps, batch size: 32 rows a step each time
PLANS = {"1 x 32": (1, 1, 32), "4 steps x 8": (1, 4, 8), "2 x 16": (2, 1, 16), "2 x 2 steps x 8": (2, 2, 8)}


def launch(processes, *arguments):
    """Runs distributed_steps.py as a user would start it."""
    command = ["accelerate", "launch", "--config_file", ROOT / "launch" / "cpu.yaml", "--num_processes", processes]
    command += [TESTS / "distributed_steps.py", *arguments]
    with tempfile.NamedTemporaryFile() as log:
        ended = forked(accelerate, list(map(str, command)), log.name)
        assert ended.code == 0, ended.output + log.read().decode()


def accelerate(command, log):
    """The launcher, each of whose processes is forked with the environment and the words that it gives to it."""
    from accelerate.commands import accelerate_cli  # half a second, which no other test needs

    sys.argv, subprocess_handler.Popen = command, functools.partial(Forked, log)
    accelerate_cli.main()


class Forked:
    """What the launcher asks of a process, for `python -u script *words`."""

    def __init__(self, log, args, env, **options):
        assert args[:2] == (sys.executable, "-u"), args
        self.process = begun(as_main, args[2], list(args[3:]), environment=env, output=open(log))
        self.pid = self.process.pid

    def poll(self):
        return self.process.exitcode

    def wait(self, timeout=None):
        self.process.join(timeout)
        return self.poll()

    def send_signal(self, number):
        os.kill(self.pid, number)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What distributed_steps.py wrote for each plan; one of them is started by accelerate's launcher."""
    folder = tmp_path_factory.mktemp("runs")
    results = {}
    for name, (processes, accumulation, batch) in PLANS.items():
        output = folder / f"{processes}_{accumulation}_{batch}.pt"
        if name == "2 x 16":
            launch(processes, batch, accumulation, output)
        else:
            start(distributed_steps.main, processes, batch, accumulation, output)
        results[name] = torch.load(output)
        assert results[name]["fixed"]["processes"] == processes
    return results


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("plan", [name for name in PLANS if name != "1 x 32"])
@pytest.mark.parametrize("weighting", ["fixed", "uncertainty", "mgda"])
def test_cutting_a_step_changes_neither_gradients_nor_parameters_nor_the_log(runs, plan, weighting):
    whole, cut = runs["1 x 32"][weighting], runs[plan][weighting]
    gradients = largest_difference(whole["gradients"], cut["gradients"])
    parameters = largest_difference(whole["parameters"], cut["parameters"])
    log = (torch.tensor(whole["log"]) - torch.tensor(cut["log"])).abs().max().item()
    print(f"{plan}, {weighting}: gradients {gradients:.1e}, parameters after ten steps {parameters:.1e}, log {log:.1e}")
    assert len(whole["log"]) == 10 and gradients < 1e-6 and parameters < 1e-5 and log < 1e-5


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty", "mgda"])
def test_ten_steps_change_the_model_and_the_weights_that_are_not_fixed(runs, weighting):
    whole = runs["1 x 32"][weighting]
    assert largest_difference(whole["before"], whole["parameters"]) > 1e-2
    weights = [entry[3] for entry in whole["log"]]
    assert (max(weights) - min(weights) > 0.05) == (weighting != "fixed")


def test_predictions_have_every_row_once_and_in_order(tmp_path):
    found = {}
    for processes in (1, 2):
        start(distributed_predictions.main, processes, tmp_path / f"{processes}.pt")
        found[processes] = torch.load(tmp_path / f"{processes}.pt")
    assert found[1].keys() == found[2].keys() and len(found[1]) == 10
    for (length, batch_size), alone in found[1].items():
        together, whole = found[2][length, batch_size], found[1][length, 4]
        assert together["processes"] == 2
        for logits, expected in zip(together["logits"], alone["logits"]):
            assert len(logits) == length
            torch.testing.assert_close(logits, expected)
        assert all(map(torch.equal, together["labels"], alone["labels"]))
        assert together["losses"] == pytest.approx(whole["losses"], rel=1e-5)
        assert len(together["losses"]) == 4


def test_a_signal_to_one_process_stops_all_after_the_same_step(tmp_path):
    start(distributed_interruption.main, 2, tmp_path / "found")
    one, other = (json.loads((tmp_path / f"found.{rank}").read_text()) for rank in (0, 1))
    assert one["signal"] == other["signal"] == signal.SIGTERM
    assert one["step"] == other["step"] == 3 and one["checkpoint"] == other["checkpoint"]
    assert one["message"].startswith("stopped after step 3 of 6") and not other["message"]
    assert (tmp_path / "found.run" / "checkpoint-3" / "model.safetensors").exists()


@pytest.mark.parametrize("kept", ["image_cache", "embeddings"])
def test_a_run_with_what_it_keeps_is_the_same_with_two_processes(image_folder, tmp_path, kept):
    """Decoded images or frozen towers' embeddings are written once and read by both; rows are answered in order."""
    config = {**TINY, "fusion_dropout": 0.0, "head_dropout": 0.0, "freeze_vision": True}
    config["text_config"] = {**TINY["text_config"], "dropout": 0.0, "attention_dropout": 0.0}
    config["freeze_text"] = kept == "embeddings"
    settings = {
        "train_file": str(image_folder / "train.jsonl"),
        "validation_file": str(image_folder / "train.jsonl"),
        "test_file": str(image_folder / "train.jsonl"),
        "image_dir": str(image_folder),
        "image_size": 32,
        "max_steps": 3,
        "learning_rate": 1e-2,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "do_train": True,
        "do_predict": True,
        "image_cache": True,
        "config": config,
        "auxiliary_columns": ["qid"],
    }
    if kept == "embeddings":
        settings |= {"horizontal_flip": 0, "random_rotation": 0, "random_crop_scale": 1, "color_jitter": 0}
        settings["cache_embeddings"] = "true"
    answers = {}
    for processes in (1, 2):
        output = tmp_path / f"{processes}"
        recipe = tmp_path / f"{processes}.yaml"
        batch = {"output_dir": str(output), "per_device_train_batch_size": 8 // processes}
        recipe.write_text(yaml.safe_dump({**settings, **batch, "per_device_eval_batch_size": 3}))
        start(run_vqa.main, processes, [str(recipe)])
        assert (output / kept).is_dir()
        lines = (output / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        answers[processes] = [json.loads(line) for line in lines]
    assert len(answers[1]) == len(answers[2]) == 16
    for alone, together in zip(answers[1], answers[2]):
        assert alone.keys() == together.keys()
        scores = [[best["score"] for best in row["top_k"]] for row in (alone, together)]
        assert scores[1] == pytest.approx(scores[0], abs=1e-4)
        for name in ("qid", "question", "answer", "question_type"):
            assert alone[name] == together[name]

"""The same recipe is the same run, however its batches are cut: real processes, with gloo between them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent
# processes, accumulation steps, batch size: 32 rows a step each time
PLANS = {"1 x 32": (1, 1, 32), "4 steps x 8": (1, 4, 8), "2 x 16": (2, 1, 16), "2 x 2 steps x 8": (2, 2, 8)}


def start(script, processes, *arguments):
    """Runs a script of this folder, started by accelerate where there are several processes."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "accelerate.commands.accelerate_cli", "launch"]
        command += ["--config_file", TESTS.parent / "launch" / "cpu.yaml", "--num_processes", processes]
    command += [TESTS / script, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What distributed_steps.py wrote for each plan."""
    folder = tmp_path_factory.mktemp("runs")
    results = {}
    for name, (processes, accumulation, batch) in PLANS.items():
        output = folder / f"{processes}_{accumulation}_{batch}.pt"
        start("distributed_steps.py", processes, batch, accumulation, output)
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
        start("distributed_predictions.py", processes, tmp_path / f"{processes}.pt")
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

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


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What distributed_steps.py wrote for each plan."""
    folder = tmp_path_factory.mktemp("runs")
    results = {}
    for name, (processes, accumulation, batch) in PLANS.items():
        output = folder / f"{processes}_{accumulation}_{batch}.pt"
        command = [sys.executable]
        if processes > 1:
            command += ["-m", "torch.distributed.run", "--nproc_per_node", processes, "--standalone"]
        command += [TESTS / "distributed_steps.py", batch, accumulation, output]
        environment = {**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
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

"""The benchmarks of what a memory and an image cost run, at sizes that say nothing of what they measure."""

import importlib
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from helpers import ROOT, TEXT
from processes import run_script

from modeling_dualvqa import memory_index_dualvqa


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Runs a benchmark in this process, and in forks what it starts in new interpreters: imports are most of those."""

    def run(command, **options):
        script, *arguments = command[1:]
        if script == "-c":
            script = tmp_path / "code.py"
            script.write_text(arguments.pop(0))
        return SimpleNamespace(stdout=run_script(script, *arguments))

    def measure(name, *flags):
        monkeypatch.setattr(subprocess, "run", run)
        monkeypatch.setattr(sys, "argv", [str(ROOT / f"benchmarks/{name}.py"), *map(str, flags)])
        importlib.import_module(name).main()

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return measure


@pytest.mark.slow
def test_speed_with_a_memory_is_a_ratio_for_each_batch_and_size(measure, tmp_path, monkeypatch, tiny_model):
    import memory_forms
    import memory_speed

    def dual():
        return tiny_model(fusion_type="cross_attention", text_config={**TEXT, "vocab_size": 30_000})

    for module in (memory_forms, memory_speed):
        monkeypatch.setattr(module, "dual", dual)
    page, flags = tmp_path / "memory_speed.md", ["--batches", 1, "--rounds", 1, "--no_onnx"]
    measure("memory_speed", "--sizes", 50, 60, *flags, "--output", page)
    rows = [line.strip(" |").split(" | ") for line in page.read_text(encoding="utf-8").splitlines()]
    speed, peak = [row for row in rows if row[0] == "PyTorch"]
    assert all(0.05 < float(cell.split()[0]) < 20 for cell in speed[4:])
    assert len(peak) == 4 and 100 < float(peak[1].replace(",", "")) < 10_000


def test_what_an_index_finds_is_compared_with_all_that_there_is(monkeypatch):
    pytest.importorskip("faiss", reason="needs faiss-cpu: pip install 'dualvqa[memory]'")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from memory_search import search

    towers = {"text_encoder": SimpleNamespace(hidden_size=16), "vision_encoder": SimpleNamespace(hidden_size=24)}
    config = SimpleNamespace(heads=("binary", "open_ended"), num_answers=3)
    keys = SimpleNamespace(question_keys=torch.randn(50, 16), image_keys=torch.randn(20, 24))
    model = SimpleNamespace(**towers, config=config, memory=keys, device="cpu")
    monkeypatch.setattr("modeling_dualvqa.memory_dualvqa.weights_digest", lambda model: None)
    found = search(model, 2000)
    assert 0.9 < found["neighbours"] <= found["weight"] <= 1 and min(found["seconds"].values()) > 0
    assert memory_index_dualvqa.INDEXED == 200_000


@pytest.mark.slow
def test_memory_of_an_image_is_measured(measure, tmp_path):
    page = tmp_path / "image_memory.md"
    measure("image_memory", "--width", 3000, "--height", 2000, "--kinds", "PNG", "--output", page)
    row = next(line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| PNG"))
    assert float(row.strip(" |").split(" | ")[2]) > 3000 * 2000 * 3 / 2**20  # its pixels, at least

"""benchmarks/serving.py runs, at sizes that say nothing of what it measures."""

import shutil
import sys

import pytest
from helpers import ROOT

from dualvqa_light import LightPipeline


@pytest.fixture
def serving(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import serving

    monkeypatch.setattr(serving, "WARM", 8)
    return serving


@pytest.mark.slow
def test_it_counts_every_request_of_a_real_server_and_writes_its_page(serving, exported, tmp_path, monkeypatch):
    folder, pipe = exported
    monkeypatch.setattr(serving, "export_onnx", lambda _, output: shutil.copytree(folder, output, dirs_exist_ok=True))
    monkeypatch.setattr(
        serving, "open_pipeline", lambda place, **cache: pipe if place == "saved" else LightPipeline(place, **cache)
    )
    page = tmp_path / "serving.md"
    flags = ["--folder", "saved", "--questions", "8", "--rounds", "1", "--requests", "40", "--clients", "4"]
    monkeypatch.setattr(sys, "argv", ["serving.py", *flags, "--output", str(page)])
    serving.main()
    text = page.read_text(encoding="utf-8")
    for said in (
        "of 40 requests none was lost",
        "| requests | 40 |",
        "| lost | 0 |",
        "| exit code after SIGTERM | 0 |",
    ):
        assert said in text, text


def test_requests_that_are_lost_twice_there_or_mixed_up_are_counted(serving):
    def answers(text):
        return [{"answer": text}]

    rows = [{"image": None, "question": question} for question in "abcd"]
    found = [(0, "0", answers("a")), (1, "1", answers("b")), (1, "1", answers("b")), (2, "3", answers("x"))]
    became = serving.check(found, rows, lambda asked, batch_size: [answers(row["question"]) for row in asked])
    assert became == {
        "requests": 4,
        "lost": 1,
        "answered twice": 1,
        "another request's id": 1,
        "another answer than in process": 1,
    }
    said = serving.found({"pytorch": 100.0, "light": 200.0, "server": 150.0}, became, -1.0)
    assert "1.50 times as many questions a second as the PyTorch pipeline" in said and "SOME WERE LOST" in said

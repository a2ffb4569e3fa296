"""The benchmarks of the server, of predict and of the browser run, at sizes that say nothing of what they measure."""

import shutil
import sys

import pytest
from helpers import ROOT

import dualvqa
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


@pytest.mark.slow
def test_predict_is_measured_by_what_answers_and_by_what_is_read(exported, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import prediction

    folders = {"PyTorch": exported[1], "float32": exported[0], "int8": exported[0]}
    monkeypatch.setattr(prediction, "export", lambda model, folder: folders)
    monkeypatch.setattr(prediction, "run_alone", lambda _, *given: dualvqa.predict(*given, device="cpu"))
    page = tmp_path / "prediction.md"
    flags = ["--folder", "saved", "--questions", "12", "--rounds", "1", "--output", str(page)]
    monkeypatch.setattr(sys, "argv", ["prediction.py", *flags])
    prediction.main()
    text = page.read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| PyTorch", "| float32", "| int8"))]
    assert [row[1] for row in rows] == ["jsonl", "jsonl", "jsonl", "parquet", "csv"]
    assert "**Found:** `dualvqa predict` answers" in text and "12 questions, 1 rounds" in text


def test_the_page_of_the_browser_says_what_each_model_showed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import browser

    def measured(folder, quantization):
        slow = 10 if folder == "b" else 1
        times = {"pictures": [70.0 * slow], "first": [9.0 * slow], "second": [4.0 * slow], "load": 900, "again": 300}
        facts = {"bytes": 3 * 2**20 * slow, "difference": 2.5e-5, "browser": "HeadlessChrome/130.0", "threads": 2}
        return {**times, **facts}

    monkeypatch.setattr(browser, "measure", measured)
    monkeypatch.setattr(browser, "CHROMIUM", "chromium")
    page = tmp_path / "browser.md"
    flags = ["--run", "shapes", "a", "--run", "radiology", "b", "--output", str(page)]
    monkeypatch.setattr(sys, "argv", ["browser.py", *flags])
    browser.main()
    text = " ".join(page.read_text(encoding="utf-8").split())
    assert (
        "**Found:** with the int8 model of shapes, 3.0 MiB to download, the second question about an image is" in text
    )
    assert "with the int8 model of radiology, 30.0 MiB to download" in text and "answered in 40 ms" in text
    assert text.count("| shapes |") == text.count("| radiology |") == 2

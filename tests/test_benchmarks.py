"""The benchmarks of speed run, at sizes that say nothing of speed."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def benchmark(name, *flags):
    subprocess.run([sys.executable, str(ROOT / f"benchmarks/{name}.py"), *map(str, flags)], check=True)


def test_inference_writes_a_row_for_each_model_and_both_plots(tmp_path):
    page = tmp_path / "inference.md"
    benchmark("inference", "--output", page, "--quick", "--rows", "ours", "CLIP ViT-B/32")
    text = page.read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| ours |", "| CLIP"))]
    assert len(rows) == 3  # both in the first table, ours in that of questions about one image
    assert all(float(cell.replace(",", "")) > 0 for row in rows[:2] for cell in row[1:4])
    assert {file.name for file in tmp_path.iterdir()} == {"inference.md", "inference.png", "inference_scaling.png"}


def test_training_measures_plain_and_ours_in_both_modes(picture_folder, tmp_path):
    page = tmp_path / "training_speed.md"
    files = ["--train_file", picture_folder / "train.jsonl", "--image_dir", picture_folder]
    benchmark("training", "--output", page, "--quick", "--data", "vqa_rad", "--rounds", 1, "--workers", 1, *files)
    rows = [line.split(" | ") for line in page.read_text(encoding="utf-8").splitlines() if line[:9] == "| vqa_rad"]
    assert [row[1] for row in rows[:2]] == ["full", "frozen"]
    assert all(float(cell.replace(",", "")) > 0 for row in rows[:2] for cell in row[2:6])
    assert page.with_suffix(".png").exists()

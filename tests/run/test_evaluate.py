"""The evaluation of a saved model in a run."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import COLOR, lines_of, load, write_jsonl
from PIL import Image

from dualvqa.run import main as run_vqa
from modeling_dualvqa import DualVQAPipeline
from processing import DualVQAProcessor


@pytest.mark.slow
def test_a_memory_takes_part_in_figures_predictions_and_report(recipe, image_folder, trained, tmp_path):
    rows = lines_of(image_folder / "train.jsonl")
    for row in rows:
        if row["question"] == COLOR:
            row["answer"] = f"colour {int(row['image'][0]) % 3}"  # words that the head doesn't know
    pipe = DualVQAPipeline(load(trained), DualVQAProcessor.from_pretrained(trained))
    images = [str(image_folder / row["image"]) for row in rows]
    pipe.memory.build(images, [row["question"] for row in rows], [row["answer"] for row in rows])
    pipe.save_pretrained(tmp_path / "remembers")
    file = write_jsonl(image_folder / "asked.jsonl", rows)
    flags = ["--model_name_or_path", str(tmp_path / "remembers"), "--do_eval", "--do_predict", "--report", "true"]
    flags += ["--validation_file", file, "--test_file", file, "--output_dir", str(tmp_path / "again")]
    run_vqa.main([recipe(do_train=False, train_file=None), *flags])
    results = json.loads((tmp_path / "again" / "all_results.json").read_text())
    assert results["eval_coverage"] == 1 and results["eval_routed_accuracy"] == results["eval_oracle_accuracy"] == 1
    predictions = lines_of(tmp_path / "again" / "predictions.jsonl")
    assert [line["answer"] for line in predictions] == [row["answer"].lower() for row in rows]
    reported = lines_of(tmp_path / "again" / "report_rows.jsonl")
    assert all(line["answers"]["routed"]["correct"] == line["coverage"] == 1 for line in reported)


@pytest.fixture
def remembers(trained, image_folder, tmp_path):
    """The folder of a model that was taught about 30 images, and a function that writes rows about these and others."""
    generator = np.random.default_rng(0)
    for number in range(60):
        noise = generator.integers(0, 255, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(image_folder / f"noise_{number}.png")
    pipe = DualVQAPipeline(load(trained), DualVQAProcessor.from_pretrained(trained))

    def rows(numbers):
        questions = ("is it red?", "is there a red shape?")
        return [
            {"image": f"noise_{n}.png", "question": questions[k], "answer": ("no", "yes")[(n + k) % 2]}
            for n in numbers
            for k in range(2)
        ]

    known = rows(range(30))
    columns = [[row[name] for row in known] for name in ("image", "question", "answer")]
    images = [str(image_folder / name) for name in columns[0]]
    pipe.memory.build(images[:40], *(column[:40] for column in columns[1:]))
    pipe.memory.add(images[40:], *(column[40:] for column in columns[1:]))
    pipe.save_pretrained(tmp_path / "remembers")
    return str(tmp_path / "remembers"), lambda numbers: write_jsonl(image_folder / "asked.jsonl", rows(numbers))


@pytest.mark.slow
def test_figures_of_questions_that_the_memory_has_are_told(remembers, recipe, caplog, tmp_path):
    folder, write = remembers
    flags = ["--model_name_or_path", folder, "--do_eval", "--output_dir", str(tmp_path / "again")]
    run_vqa.main([recipe(do_train=False, train_file=None), *flags, "--validation_file", write(range(20, 50))])
    assert "20 of 60 validation questions are in the model's memory word for word, about the same image" in caplog.text
    caplog.clear()
    flags += ["--ensemble_with", str(tmp_path / "out")]
    run_vqa.main([recipe(do_train=False, train_file=None), *flags, "--validation_file", write(range(25, 50))])
    assert "10 of 50 validation questions are in the model's memory word for word" in caplog.text
    caplog.clear()
    run_vqa.main([recipe(do_train=False, train_file=None), *flags, "--validation_file", write(range(30, 50))])
    assert "word for word" not in caplog.text


@pytest.mark.slow
def test_nothing_is_promised_by_questions_that_the_memory_has(remembers, image_folder, recipe, caplog, tmp_path):
    folder, write = remembers
    flags = ["--model_name_or_path", folder, "--max_risk", "0.97", "--output_dir", str(tmp_path / "again")]
    recipe = recipe(do_train=False, train_file=None)
    with pytest.raises(SystemExit, match="60 of 60 validation questions are in the model's memory .* is too small"):
        run_vqa.main([recipe, *flags, "--validation_file", write(range(30))])
    assert not (tmp_path / "again" / "config.json").exists()
    file, pipe = Path(write(range(28, 60))), DualVQAPipeline(load(folder), DualVQAProcessor.from_pretrained(folder))
    rows = lines_of(file)
    for row in rows:  # all answers are right, which allows a promise
        row["answer"] = pipe(str(image_folder / row["image"]), row["question"])[0]["answer"]
    run_vqa.main([recipe, *flags, "--validation_file", write_jsonl(file, rows)])
    assert "4 of 64 validation questions are in the model's memory word for word" in caplog.text
    assert DualVQAProcessor.from_pretrained(tmp_path / "again").calibration["abstention"]["rows"] == 60

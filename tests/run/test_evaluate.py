"""The evaluation of a saved model in a run."""

import json

import pytest
from helpers import COLOR, lines_of, load, write_jsonl

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

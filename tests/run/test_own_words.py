"""A table whose yes and no are Ja and Nein, from training to the answers of a saved folder."""

import json

import pytest
from helpers import TINY, lines_of, write_images, write_jsonl
from transformers import pipeline

from dualvqa.run import main as run_vqa
from dualvqa.training.building import load_model


@pytest.fixture(scope="module")
def german_run(tmp_path_factory):
    """The folder of a run of two steps, evaluated, reported and predicted; its test part is answered in German too."""
    folder = write_images(tmp_path_factory.mktemp("german"))
    colors = {"red": "rot", "green": "grün", "blue": "das Blau"}
    answers = {"yes": "Ja", "No": "Nein", **colors}
    rows = [{**row, "answer": answers[row["answer"]]} for row in lines_of(folder / "train.jsonl")]
    flags = {
        "train_file": write_jsonl(folder / "german.jsonl", rows),
        "test_file": write_jsonl(folder / "t.jsonl", rows[:8]),
    }
    flags |= {"image_dir": folder, "output_dir": folder / "out", "image_size": 32, "validation_fraction": 0.25}
    flags |= {"max_steps": 2, "per_device_train_batch_size": 8, "report_to": "none", "answer_language": "de"}
    config = ["--config", *(f"{name}={json.dumps(value)}" for name, value in TINY.items())]
    line = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    run_vqa.main([*line, *config, "--preset", "none", "--use_cpu", "--do_train", "--do_eval", "--do_predict"])
    return folder / "out"


@pytest.mark.slow
def test_the_yes_no_head_learns_and_says_the_persons_own_words(german_run):
    processor = load_model(german_run)[1]
    assert processor.binary_answers == ("Nein", "Ja") and not {"Ja", "Nein"} & set(processor.answers)
    assert processor.answer_rules == {"yes_answers": ["Ja"], "no_answers": ["Nein"], "answer_language": "de"}
    assert {line["answer"] for line in lines_of(german_run / "predictions.jsonl")} <= {"Ja", "Nein", *processor.answers}
    pipe = pipeline("visual-question-answering", model=str(german_run), trust_remote_code=True)
    image = str(german_run.parent / "0.png")
    said = pipe(image=image, question="is it red?", question_type="binary", top_k=2)
    assert {item["answer"] for item in said} == {"Ja", "Nein"}


@pytest.mark.slow
def test_figures_count_them_as_yes_and_no(german_run):
    results = json.loads((german_run / "all_results.json").read_text())
    assert results["eval_coverage"] == 1.0 and "eval_oracle_binary_accuracy" in results
    report = json.loads((german_run / "report.json").read_text())["parts"]["test"]
    assert report["types"]["binary"]["questions"] == 4 and report["auc"]["value"] is not None
    assert set(report["confusion"]["oracle"]["binary"]["expected"]) == {"Ja", "Nein"}
    rows = lines_of(german_run / "report_rows.jsonl")
    assert {row["expected"] for row in rows if row["type"] == "open_ended"} == {"rot", "grün", "blau"}
    for row in rows:
        said = row["answers"]["oracle"]["answer"]
        assert row["answers"]["oracle"]["correct"] == float(said == row["references"][0])


@pytest.mark.slow
def test_a_saved_model_predicts_and_evaluates_by_its_own_words(german_run, tmp_path):
    test_file = str(german_run.parent / "t.jsonl")
    flags = ["--model_name_or_path", str(german_run), "--test_file", test_file, "--image_dir", str(german_run.parent)]
    run_vqa.main([*flags, "--output_dir", str(tmp_path), "--do_eval", "--do_predict", "--use_cpu"])
    first = json.loads((german_run / "all_results.json").read_text())
    again = json.loads((tmp_path / "all_results.json").read_text())
    assert again["test_routed_accuracy"] == first["test_routed_accuracy"]
    assert again["test_oracle_binary_accuracy"] == first["test_oracle_binary_accuracy"]

"""The commands that are runs: each does what its flags of run_vqa.py do, and leaves it where it says."""

import json

import pytest
from helpers import data_arguments

from dualvqa.cli import main
from processing import prepare_datasets


@pytest.fixture
def write_csv(image_folder):
    """Writes a table with an image and a question to each answer."""

    def write(name, *answers):
        rows = [f"{n}.png,what color is it?,{answer}" for n, answer in enumerate(answers)]
        (image_folder / name).write_text("\n".join(["image,question,answer", *rows]) + "\n")
        return str(image_folder / name)

    return write


@pytest.mark.slow
def test_a_model_is_trained_evaluated_asked_for_predictions_and_calibrated(recipe, test_file, tmp_path, capsys):
    out = tmp_path / "out"
    main(["train", recipe(do_train=False), "--validation_fraction", "0.5"])
    assert (out / "model.safetensors").exists()
    weights = (out / "model.safetensors").read_bytes()

    main(["evaluate", str(out), recipe(teacher=["somewhere"], report_blind=True), "--report", "false"])
    results = json.loads((out / "evaluation" / "all_results.json").read_text())
    assert "eval_routed_accuracy" in results and "\nValidation part: " in capsys.readouterr().out

    main(["predict", str(out), "--test_file", test_file, "--image_dir", str(tmp_path), "--use_cpu"])
    assert len((out / "prediction" / "predictions.jsonl").read_text().splitlines()) == 6

    with pytest.raises(SystemExit, match="the scores can't be calibrated: the validation part is too small"):
        main(["calibrate", str(out), recipe()])
    assert (out / "model.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_a_test_part_with_some_answers_is_not_evaluated_and_one_without_any_neither(trained, image_folder, write_csv):
    def refused(file):
        with pytest.raises(SystemExit) as caught:
            main(["evaluate", str(trained), "--test_file", file, "--image_dir", str(image_folder), "--use_cpu"])
        assert not (trained / "evaluation" / "report.html").exists()
        return str(caught.value)

    message = refused(write_csv("half.csv", "red", "", "blue", "", ""))
    assert "half.csv has 3 bad rows of 5:" in message and "row 3 (" in message and "no answer" in message
    assert "3 of 5 rows have no answer to be scored by: fill it in, or take them out; `dualvqa predict`" in message
    assert "--on_bad_example skip" in message
    message = refused(write_csv("none.csv", "", ""))
    assert "--do_eval has nothing to evaluate: no row of the test part has an answer" in message


def test_a_test_part_with_some_answers_is_predicted_whole_and_may_be_scored_without_the_others(image_folder, write_csv):
    file = write_csv("half.csv", "red", "", "blue")
    parts, _, bad = prepare_datasets(data_arguments(image_folder, test_file=file), needs_training=False)
    assert len(parts["test"]) == 3 and "answer" not in parts["test"].column_names and not bad
    chosen = data_arguments(image_folder, test_file=file, on_bad_example="skip")
    parts, _, bad = prepare_datasets(chosen, needs_training=False, scores_test=True)
    assert parts["test"]["answer"][:] == ["red", "blue"] and [row["row"] for row in bad] == [3]

"""The commands that are runs: each does what its flags of run_vqa.py do, and leaves it where it says."""

import json

import pytest

from dualvqa.cli import main


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

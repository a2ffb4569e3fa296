import json
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from helpers import lines_of, write_jsonl

from dualvqa.run import main as run_vqa
from dualvqa.trainer import DualVQATrainer
from dualvqa.training.hub import PRIVATE_FILES, SHARED_FILES
from processing import VQACollator


@pytest.fixture
def answered(image_folder):
    """A test part with answers and a column of kinds."""
    rows = lines_of(image_folder / "train.jsonl")
    return write_jsonl(image_folder / "answered.jsonl", [{**row, "kind": str(n % 3)} for n, row in enumerate(rows)])


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.slow
@pytest.mark.usefixtures("drawn")
def test_a_run_reports_on_every_evaluated_part(recipe, answered, tmp_path):
    run_vqa.main([recipe(), "--do_eval", "--test_file", answered])
    out = tmp_path / "out"
    report, results = (json.loads((out / name).read_text()) for name in ("report.json", "all_results.json"))
    assert list(report["parts"]) == ["validation", "test"] and report["title"] == "out"
    for part, prefix in (("validation", "eval"), ("test", "test")):
        figures = report["parts"][part]
        for name in ("routed", "oracle", "majority"):
            expected = results[f"{prefix}_{name}_accuracy"]
            assert figures["accuracy"][name]["all"]["value"] == pytest.approx(expected)
        assert figures["router_accuracy"]["value"] == pytest.approx(results[f"{prefix}_router_accuracy"])
    assert report["parts"]["validation"]["leakage"]["images_seen"] == 0
    assert report["parts"]["test"]["leakage"]["images_seen"] == 6
    assert list(report["parts"]["test"]["columns"]) == ["kind"]
    assert ["seed", 42] in report["settings"]
    rows = lines_of(out / "report_rows.jsonl")
    assert [row["row"] for row in rows if row["part"] == "test"] == list(range(16))
    page = (out / "report.html").read_text()
    assert str(tmp_path) not in page and "Validation part" in page and "Test part" in page
    # A saved model that is only evaluated is reported on, too, and elsewhere.
    flags = ["--do_train", "false", "--do_eval", "--test_file", answered, "--model_name_or_path", str(out)]
    run_vqa.main([recipe(), *flags, "--train_file", answered, "--output_dir", str(tmp_path / "again")])
    again = json.loads((tmp_path / "again" / "report.json").read_text())
    found, expected = (r["parts"]["test"]["accuracy"]["routed"]["all"] for r in (again, report))
    assert found == pytest.approx(expected) and again["settings"][0] == ["model", "out"]


@pytest.mark.slow
def test_a_saved_model_remembers_the_most_frequent_training_answers(trained, answered, image_folder, caplog):
    """What needs the training questions themselves is left out, until they are given."""
    caplog.set_level("INFO")
    flags = ["--do_eval", "--model_name_or_path", str(trained), "--use_cpu", "--report_to", "none"]
    flags += ["--image_dir", str(image_folder), "--validation_file", answered, "--output_dir"]
    run_vqa.main([*flags, str(trained / "alone")])
    metrics = json.loads((trained / "alone" / "eval_results.json").read_text())
    assert metrics["eval_majority_binary_accuracy"] == 5 / 8  # "no": not red
    report = json.loads((trained / "alone" / "report.json").read_text())["parts"]["validation"]
    assert report["accuracy"]["majority"]["all"]["value"] == pytest.approx(metrics["eval_majority_accuracy"])
    assert "copied" not in report["accuracy"] and report["leakage"] is None
    assert "it lacks answers copied from training questions" in caplog.text and "--train_file" in caplog.text
    assert "nothing to copy from. Evaluate with" in (trained / "alone" / "report.html").read_text()
    caplog.clear()
    run_vqa.main([*flags, str(trained / "beside"), "--train_file", str(image_folder / "train.jsonl")])
    report = json.loads((trained / "beside" / "report.json").read_text())["parts"]["validation"]
    assert "copied" in report["accuracy"] and report["leakage"]["images_seen"] == 8
    assert "it lacks" not in caplog.text
    assert "most frequent training answers: yes/no, no" in (trained / "README.md").read_text().lower()


@pytest.mark.slow
def test_the_blind_model_does_not_see(recipe, answered, tmp_path):
    run_vqa.main([recipe(max_steps=6), "--do_eval", "--test_file", answered, "--report_blind"])
    out = tmp_path / "out"
    rows = lines_of(out / "report_rows.jsonl")
    seen, unseen = {}, {}
    for row in rows:
        for known, name in ((seen, "oracle"), (unseen, "blind_oracle")):
            answer = row["answers"][name]
            known.setdefault(row["question"], set()).add((answer["answer"], round(answer["score"], 5)))
    assert len(rows) == 20 and {len(answers) for answers in unseen.values()} == {1}  # 8 images
    assert max(len(answers) for answers in seen.values()) > 1
    figures = json.loads((out / "report.json").read_text())["parts"]["test"]
    blind = json.loads((out / "blind" / "all_results.json").read_text())
    assert figures["accuracy"]["blind_routed"]["all"]["value"] == pytest.approx(blind["test_routed_accuracy"])
    assert "no images, routed" in (out / "report.html").read_text()
    card = (out / "blind" / "README.md").read_text()
    assert "| images | not seen: all pixels are the mean |" in card
    assert "not seen" not in (out / "README.md").read_text()


@pytest.mark.slow
def test_seeing_is_all_that_the_blind_model_lacks(recipe, tmp_path, monkeypatch):
    """With its eyes open it would be the run's own model."""
    original = VQACollator.__call__

    def seeing(self, rows):
        self.blind = False
        return original(self, rows)

    run_vqa.main([recipe(), "--do_eval", "--output_dir", str(tmp_path / "alone")])
    monkeypatch.setattr(VQACollator, "__call__", seeing)
    run_vqa.main([recipe(), "--do_eval", "--report_blind"])
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("alone", "out", "out/blind")]
    assert models[0] == models[1] == models[2]  # and a second model changes nothing of the first


@pytest.mark.slow
def test_the_blind_model_has_blind_embeddings(recipe, answered, tmp_path):
    settings = ["--random_crop_scale", "1", "--color_jitter", "0", "--cache_embeddings", "true"]
    flags = ["--do_eval", "--test_file", answered, "--report_blind", "--config", "freeze_vision=true"]
    run_vqa.main([recipe(), *flags, "freeze_text=true", *settings])
    scores = {}
    for row in lines_of(tmp_path / "out" / "report_rows.jsonl"):
        scores.setdefault(row["question"], set()).add(round(row["answers"]["blind_oracle"]["score"], 5))
    assert {len(found) for found in scores.values()} == {1}


def test_a_blind_collator_gives_mean_pixels_and_the_same_labels(processor, image_folder):
    rows = [
        {"image_key": n, "image": {"path": str(image_folder / f"{n}.png")}, "question": "is it red?", "answer": "no"}
        for n in (0, 1)
    ]
    seeing, blind = (VQACollator(processor, blind=blind)(rows) for blind in (False, True))
    assert not blind.pop("pixel_values").any() and seeing.pop("pixel_values").any()
    for name, tensor in seeing.items():
        torch.testing.assert_close(blind[name], tensor)


@pytest.mark.slow
def test_a_report_that_fails_takes_nothing_away(recipe, tmp_path, monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise RuntimeError("no space")

    monkeypatch.setattr("dualvqa.trainer.write_report", fail)
    run_vqa.main([recipe(), "--do_eval"])
    assert "no report: RuntimeError: no space. All other results of the run are kept" in warnings_of(caplog)
    out = tmp_path / "out"
    assert "eval_routed_accuracy" in json.loads((out / "all_results.json").read_text())
    assert (out / "model.safetensors").exists() and "| routed |" in (out / "README.md").read_text()


@pytest.mark.slow
def test_a_blind_model_that_fails_leaves_the_report(recipe, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(DualVQATrainer, "train_blind", lambda *args: 1 / 0)
    run_vqa.main([recipe(), "--do_eval", "--report_blind"])
    assert [line for line in warnings_of(caplog) if line.startswith("no model without images: ZeroDivisionError")]
    assert (
        "blind_routed"
        not in json.loads((tmp_path / "out" / "report.json").read_text())["parts"]["validation"]["accuracy"]
    )


@pytest.mark.slow
def test_a_test_part_without_answers_is_left_out(recipe, image_folder, tmp_path):
    rows = [{"image": "0.png", "question": "is it red?"}]
    flags = ["--do_eval", "--do_predict", "--test_file", write_jsonl(image_folder / "asked.jsonl", rows)]
    run_vqa.main([recipe(), *flags])
    assert list(json.loads((tmp_path / "out" / "report.json").read_text())["parts"]) == ["validation"]
    assert len(lines_of(tmp_path / "out" / "predictions.jsonl")) == 1


@pytest.mark.slow
def test_it_can_be_left_out_and_asks_for_what_it_needs(recipe, tmp_path):
    with pytest.raises(SystemExit, match="--report_blind trains a second model.*needs --do_train and --do_eval"):
        run_vqa.main([recipe(), "--report_blind"])
    with pytest.raises(SystemExit, match="--report_blind.*can't be with --pretrain or --report false"):
        run_vqa.main([recipe(), "--report_blind", "--do_eval", "--report", "false"])
    with pytest.raises(SystemExit, match="--report_columns needs --do_eval"):
        run_vqa.main([recipe(), "--report_columns", "qid"])
    with pytest.raises(SystemExit, match="no evaluated part has a column 'organ'; there are qid"):
        run_vqa.main([recipe(), "--do_eval", "--report_columns", "organ"])
    assert not (tmp_path / "out").exists()
    run_vqa.main([recipe(), "--do_eval", "--report", "false"])
    assert not list((tmp_path / "out").glob("report*"))


def test_neither_report_nor_blind_model_is_pushed():
    for name in ("report.json", "report_rows.jsonl", "report.html", "blind/model.safetensors", "blind/config.json"):
        shared = any(fnmatch(name, pattern) for pattern in SHARED_FILES)
        assert not shared or any(fnmatch(name, pattern) for pattern in PRIVATE_FILES), Path(name)

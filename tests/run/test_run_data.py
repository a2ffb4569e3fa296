"""What a run refuses to start with, or tells before it does."""

import json
from collections import Counter
from types import SimpleNamespace

import pytest

from dualvqa.run import main as run_vqa
from dualvqa.training.data_checks import check_heads
from processing.summary import TrainingSummary

PROCESSOR = SimpleNamespace(answers=["red", "blue"])


def summary(**answers):
    return TrainingSummary(sum(answers.values()), None, Counter(answers), [])


def test_training_rows_that_no_head_learns_from_are_refused():
    with pytest.raises(ValueError, match="nothing to train: of 5 training rows none has the answer yes or no, which"):
        check_heads(["binary"], summary(red=3, green=2), PROCESSOR)
    with pytest.raises(ValueError, match="none has an answer of the vocabulary"):
        check_heads(["open_ended"], summary(green=2), PROCESSOR)
    with pytest.raises(ValueError, match="none has the answer yes or no, or an answer of the vocabulary"):
        check_heads(["binary", "open_ended"], summary(green=2), PROCESSOR)
    check_heads(["open_ended"], summary(yes=2), SimpleNamespace(answers=["yes", "no"]))


def test_a_head_that_learns_from_no_row_is_told(caplog):
    check_heads(["binary", "open_ended"], summary(yes=1, red=1), PROCESSOR)
    assert not caplog.text
    check_heads(["binary", "open_ended"], summary(red=3, green=2), PROCESSOR)
    assert "the binary head learns nothing: of 5 training rows none has the answer yes or no" in caplog.text


@pytest.mark.parametrize("length", [{}, {"max_steps": -1, "num_train_epochs": 1}])
def test_rows_that_make_no_batch_are_refused_before_anything_is_trained(recipe, length, tmp_path):
    message = r"dataloader_drop_last leaves nothing to train on: there are \d+ training rows, and a batch has 100"
    with pytest.raises(SystemExit, match=message):
        run_vqa.main([recipe(dataloader_drop_last=True, per_device_train_batch_size=100, **length)])
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.slow
def test_columns_that_a_recipe_names_may_be_lacking(recipe, caplog):
    named = {"auxiliary_columns": ["organ", "qid"], "report_columns": ["plane"], "exclude_rows": ["phrase_type=frame"]}
    run = run_vqa.main([recipe(**named), "--do_eval"])
    assert "the data have no column organ: auxiliary_columns of the recipe goes without" in caplog.text
    assert "the data have no column plane: report_columns of the recipe goes without" in caplog.text
    assert "has no column phrase_type: --exclude_rows phrase_type=frame leaves nothing out" in caplog.text
    assert list(run.trainer.auxiliary.values) == ["qid"]


@pytest.mark.parametrize(
    "flag", ["--auxiliary_columns organ", "--report_columns organ --do_eval", "--exclude_rows o=1"]
)
def test_columns_that_the_command_line_names_must_be_there(recipe, flag):
    with pytest.raises(SystemExit, match=flag.split()[0]):
        run_vqa.main([recipe(), *flag.split()])


def test_a_refitted_model_is_not_evaluated_in_silence_on_rows_that_it_was_trained_on(
    trained, recipe, test_file, tmp_path, caplog
):
    path = trained / "config.json"
    config = json.loads(path.read_text())
    config["model_card"]["refit"] = {"questions": 16, "images": 8, "steps": 2}
    path.write_text(json.dumps(config))
    flags = ["--model_name_or_path", str(trained), "--report", "false", "--output_dir", str(tmp_path / "later")]
    run_vqa.main([recipe(do_train=False, do_eval=True), *flags])
    assert "was refitted on all questions, those of the validation part among them" in caplog.text
    caplog.clear()
    run_vqa.main([recipe(do_train=False, do_predict=True), *flags, "--test_file", test_file])
    assert "was refitted" not in caplog.text

"""A run without a recipe takes a preset; what is given, a recipe, or --preset none counts more."""

import contextlib
import logging

import pytest

from dualvqa.run import main as run_vqa
from dualvqa.run.arguments import parse_arguments
from dualvqa.run.state import Run


@pytest.fixture
def prepared(image_folder, tmp_path, recipe):
    """The run that some flags give, as far as its trainer."""

    def prepare(*flags, with_recipe=False):
        argv = ["--train_file", str(image_folder / "train.jsonl"), "--image_dir", str(image_folder), "--do_train"]
        argv += ["--output_dir", str(tmp_path / "out"), "--use_cpu", "--image_size", "32", "--report_to", "none"]
        argv = [*([recipe()] if with_recipe else []), *argv, "--config", "fusion_hidden_size=16", *flags]
        with contextlib.ExitStack() as held:
            run = Run(parse_arguments(argv), held)
            for stage in run_vqa.STAGES[: run_vqa.STAGES.index(run_vqa.train)]:
                stage(run)
        return run

    return prepare


def test_without_a_recipe_the_data_choose_and_the_log_says_which(prepared, caplog):
    caplog.set_level(logging.INFO)
    run = prepared("--learning_rate", "5e-5")
    assert run.preset.name == "scratch" and "preset scratch (14 questions about 7 images, 50% yes/no" in caplog.text
    config, args = run.model.config, run.trainer.args
    assert config.fusion_type == "cross_attention" and config.open_ended_head_sizes == []
    assert config.fusion_hidden_size == 16, "what is given counts more"
    assert args.num_train_epochs == run.preset.training["num_train_epochs"]
    assert args.learning_rate == 5e-5, "also where it is the default's value"
    run.trainer.start_record()
    card = dict(run.model.config.model_card["settings"])
    assert card["preset"] == f"scratch ({run.preset.why})" and "fusion_type cross_attention" in card["configuration"]


@pytest.mark.slow
def test_a_recipe_or_none_leaves_the_defaults(prepared):
    for run in (prepared("--preset", "none"), prepared(with_recipe=True)):
        assert run.preset is None and run.model.config.fusion_type == "attention"
        assert run.trainer.args.num_train_epochs == 3


def test_a_preset_asked_for_by_name_goes_with_a_recipe_whose_values_win(prepared):
    run = prepared("--preset", "some", with_recipe=True)
    assert run.preset.why == "asked for" and run.model.config.fusion_type == "cross_attention"
    assert run.trainer.args.per_device_train_batch_size == 8 and run.trainer.args.num_train_epochs == 10

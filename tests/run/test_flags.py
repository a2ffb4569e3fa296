"""The command line's flags: the data file that describes them, and what is understood and refused without torch."""

import dataclasses
import json
import subprocess
import sys

import pytest

from dualvqa.run import flags
from dualvqa.run.arguments import GROUPS, parse_arguments
from dualvqa.run.describe_flags import as_text, describe
from dualvqa.run.flags import check_flags, load_flags, read_settings


def test_the_data_file_is_what_the_dataclasses_say():
    stale = "flags.json is stale: run python -m dualvqa.run.describe_flags"
    assert flags.PATH.read_text(encoding="utf-8") == as_text(describe()), stale
    assert json.loads(as_text(describe())) == describe()


def test_each_field_is_one_flag():
    names = {field.name for group in GROUPS for field in dataclasses.fields(group) if field.init}
    assert set(load_flags()) == names


def test_another_version_of_transformers_is_described_anew(monkeypatch):
    monkeypatch.setattr(flags.importlib.metadata, "version", lambda name: "5.99.0")
    assert flags.load_description.__wrapped__() == describe()


def test_errors_of_arguments_import_nothing_large():
    code = (
        "import sys\n"
        "from dualvqa.run.flags import check_flags\n"
        "try:\n    check_flags(['easy_vqa', '--learning_ratte', '1'])\nexcept ValueError as error:\n    print(error)\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "did you mean --learning_rate" in shown and shown.endswith("[]\n")


def test_values_have_the_types_of_their_fields():
    line = "--learning-rate=1e-4 --do_train --no_report --image_mean 0 -0.5 1 --report_to none --max_answers null"
    assert read_settings(line.split()) == {
        "learning_rate": 1e-4,
        "do_train": True,
        "report": False,
        "image_mean": [0.0, -0.5, 1.0],
        "report_to": "none",
        "max_answers": None,
    }
    assert read_settings(["--report_to", "tensorboard", "trackio"]) == {"report_to": ["tensorboard", "trackio"]}


@pytest.mark.parametrize(
    "line, message",
    [
        ("--learning_r 1", "unknown argument --learning_r; did you mean .*--learning_rate"),
        ("--seed", "--seed: expected one argument"),
        ("--seed 1 recipe.yaml", "unexpected argument 'recipe.yaml': a recipe comes before all flags"),
        ("--seed 1.5", "seed must be a whole number, .*; found 1.5"),
        ("--eval_strategy epochs", "eval_strategy must be one of no, steps, epoch; found 'epochs'; did you mean epoch"),
        ("--on_bad_example stop", "on_bad_example must be one of error, skip; found 'stop'"),
        ("--pretrain contrastve", "did you mean contrastive"),
        (
            "--do_train --config fusion_typ=a",
            "a field of DualVQAConfig, found 'fusion_typ=a'; did you mean fusion_type",
        ),
        ("--do_train --teacher a --streaming", "--teacher needs --do_train, and can't be with --streaming"),
        ("--seed 1", "nothing to do: give one or more of --do_train"),
        ("--do_train", "no data: give --train_file, --validation_file or --test_file, or --dataset_name"),
    ],
)
def test_what_is_wrong_in_a_command_line_is_named(line, message):
    with pytest.raises(ValueError, match=message):
        check_flags(line.split())


def test_a_list_of_a_recipe_can_be_emptied(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("exclude_rows: [a=b]\nauxiliary_columns: [organ]\nconfig: {fusion_type: concat}\n")
    empty = read_settings([str(recipe), "--exclude_rows", "--auxiliary_columns", "--config"])
    assert empty == {"exclude_rows": [], "auxiliary_columns": [], "config": []}
    both = read_settings([str(recipe), "--config", "head_dropout=0"])["config"]
    assert both == ['fusion_type="concat"', "head_dropout=0"]


def test_settings_become_the_dataclasses(tmp_path):
    parsed = parse_arguments(
        ["--output_dir", str(tmp_path), "--use_cpu", "--exclude_rows", "a=b", "c=d", "--seed", "3"]
    )
    found = {name: value for group in parsed for name, value in vars(group).items()}
    assert found["exclude_rows"] == ["a=b", "c=d"] and found["seed"] == 3 and found["output_dir"] == str(tmp_path)
    defaults = load_flags()
    assert all(found[name] == defaults[name].default for name in ("top_k", "fold", "color_jitter", "effective_beta"))

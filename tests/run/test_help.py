"""The page that --help shows."""

import re
import subprocess
import sys

import pytest

from dualvqa.cli import main
from dualvqa.cli.runs import OF_COMMAND, SHOWN
from dualvqa.run.flags import load_flags
from dualvqa.run.help import help_page


@pytest.mark.parametrize("everything, columns", [(False, 80), (False, 100), (True, 80), (True, 300)])
def test_each_flag_is_there_once_and_no_line_is_too_long(monkeypatch, everything, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = help_page("dualvqa train", "Trains.", everything).splitlines()
    shown = [match[1] for match in map(re.compile(r"  --(\w+)").match, lines) if match]
    others = [name for name, flag in load_flags().items() if "other" in flag.group]
    expected = [name for name in load_flags() if everything or name not in others]
    assert shown == expected and len(others) > 50
    assert max(map(len, lines)) <= min(columns, 110)


def test_a_flag_is_shown_with_its_choices_its_range_and_its_default(monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    page = " ".join(help_page("dualvqa train", "Trains.").split())
    assert "--task_weighting NAME Weights of the two heads' losses: fixed; schedule, by epoch;" in page
    assert "[one of fixed, schedule, " in page
    assert (
        "--on_bad_example error|skip Stop at" in page
        and "lacking answer, or leave such rows out [default error]" in page
    )
    assert "--color_jitter X Largest relative change of brightness and contrast [>= 0, <= 1; default 0.1]" in page
    assert (
        "--exclude_rows [TEXT ...] Leave out" in page and "--report true|false" in page and "--streaming Read" in page
    )
    assert "recipes" not in page and "easy_vqa, vqa_rad" in page


@pytest.mark.parametrize("command", sorted(OF_COMMAND.keys() - {"predict"}))  # whose --help is of its other form
def test_a_command_without_training_shows_the_flags_that_it_has_a_use_for(capsys, command):
    main([command, "--help"])
    lines = capsys.readouterr().out.splitlines()
    shown = [match[1] for match in map(re.compile(r"  --(\w+)").match, lines) if match]
    assert set(shown) == {*SHOWN, *OF_COMMAND[command]} and lines[-1].startswith("--help-all")
    assert all(lines[n + 1] for n, line in enumerate(lines) if line.endswith(":"))


def test_help_imports_nothing_large():
    code = (
        "import sys\nfrom dualvqa.run.start import start\nstart(['--help'])\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("usage: run_vqa.py [RECIPE]") and shown.endswith("[]\n")

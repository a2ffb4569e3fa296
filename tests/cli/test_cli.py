"""The console command: its pages, and what is wrong with a command line before anything large is imported."""

import subprocess
import sys

import pytest
from helpers import ROOT

import dualvqa
from dualvqa.cli import COMMANDS, main


def test_the_overview_names_every_command(capsys):
    for arguments in ([], ["--help"]):
        main(arguments)
        shown = capsys.readouterr().out
        assert all(f"\n  {name} " in shown for name in COMMANDS)
    main(["--version"])
    assert capsys.readouterr().out == f"dualvqa {dualvqa.__version__}\n"


@pytest.mark.parametrize("command", [name for name in COMMANDS])
def test_each_command_has_a_help_page(command, capsys):
    try:
        main([command, "--help"])
    except SystemExit as end:
        assert not end.code
    assert capsys.readouterr().out.startswith(f"usage: dualvqa {command} ")


@pytest.mark.parametrize(
    "line, message",
    [
        ("trian easy_vqa", "there is no command 'trian'; did you mean train.* the commands are train, ask, evaluate"),
        ("train easy_vqua", "cannot read the recipe easy_vqua: no such file; did you mean easy_vqa"),
        ("train easy_vqa --learning_ratte 1", "unknown argument --learning_ratte; did you mean --learning_rate"),
        (
            "train easy_vqa --fusion_type x",
            "argument --fusion_type; the model's fields are given with --config fusion_",
        ),
        ("evaluate", "expected a saved model first: dualvqa evaluate FOLDER"),
        ("evaluate nowhere", "there is no folder nowhere; give that of a saved model, or its id on the Hub"),
        ("predict tests", "tests is no DualVQA model: expected config.json with model_type dualvqa, found none"),
        ("ask tests/nowhere image.png what?", "there is no folder tests/nowhere"),
        ("ask OWNER/NAME gone.png what?", "expected an image's file or URL, found gone.png: no such file"),
        ("ask OWNER/NAME setup.cfg what? --top_k 0", "--top_k must be a whole number, at least 1; found 0"),
        ("ask OWNER/NAME setup.cfg what? --top-k 2", "dualvqa ask: unknown argument --top-k; did you mean --top_k"),
        ("ask OWNER/NAME", "the following arguments are required: image, question"),
        ("explain OWNER/NAME setup.cfg what? --output gone/x.png", "there is no folder gone to write gone/x.png into"),
        ("explain OWNER/NAME setup.cfg what? --output x.doc", "expected --output to end in one of .png, .jpg"),
        ("export nowhere onnx", "there is no folder nowhere"),
        ("export OWNER/NAME onnx --heads both", "invalid choice: 'both'"),
        ("export OWNER/NAME page --to paper", "invalid choice: 'paper'"),
        ("export OWNER/NAME page --to web --whole", "--whole is for --to onnx; found --to web"),
        ("export OWNER/NAME onnx --examples rows.jsonl", "--examples is for --to web and space; found --to onnx"),
        ("export OWNER/NAME page --to web --examples nowhere.jsonl", "there is no file nowhere.jsonl with examples"),
        (
            "export OWNER/NAME js --to transformers.js --quantization int8",
            "--quantization is for --to onnx and web; found",
        ),
        ("ask OWNER/NAME setup.cfg what? --coverage 90", "--coverage must be a number between 0 and 1, .* found 90"),
        ("predict OWNER/NAME setup.cfg --output a.txt", "expected --output to end in .jsonl, .csv, .parquet; found a"),
        ("serve OWNER/NAME --port 99999", "port must be at most 65535, found 99999"),
        ("compare tests tests", "expected two or more different runs, found tests, tests"),
        ("compare tests docs", "tests has no report_rows.jsonl: evaluate it first, with dualvqa evaluate"),
        ("info .", ". is no DualVQA model"),
    ],
)
def test_what_is_wrong_is_one_line(line, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        main(line.split())


def test_pages_and_errors_import_nothing_large():
    code = (
        "import sys\nfrom dualvqa.cli import main\n"
        "for line in ('--help', 'train --help', 'evaluate --help-all', 'ask --help', 'train --sed 1', 'info .',\n"
        "             'ask A/B setup.cfg what? --coverage 90', 'predict A/B setup.cfg --output a.txt'):\n"
        "    try:\n        main(line.split())\n    except SystemExit:\n        pass\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert shown.endswith("[]\n")


def test_it_is_a_module_too():
    shown = subprocess.run([sys.executable, "-m", "dualvqa", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert shown.stdout == f"dualvqa {dualvqa.__version__}\n"


def test_the_maps_that_can_be_chosen_are_those_that_can_be_made():
    from dualvqa.cli.asking import MAPS
    from dualvqa.trust import explanation

    assert MAPS == explanation.MAPS

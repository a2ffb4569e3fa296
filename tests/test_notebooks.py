"""The notebooks run from top to bottom, with few images and two steps of training."""

import ast
import json

import pytest
from helpers import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What stands in the cells and what is run in its place. A model that has learned nothing can promise nothing less.
SHORTER = {
    "COUNT = 400": "COUNT = 160",
    '"num_train_epochs": 8': '"max_steps": 2',
    "MAX_RISK = 0.15": "MAX_RISK = 0.95",
}
pytestmark = pytest.mark.slow


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_there_are_notebooks():
    page = (ROOT / "docs/tutorials/notebooks.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 3 and all(path.name in page for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_is_stored_without_outputs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, shortened = {}, set()
    for number, cell in enumerate(code_cells(path)):
        assert cell["outputs"] == [] and cell["execution_count"] is None
        code = "".join(cell["source"])
        shortened |= {text for text in SHORTER if text in code}
        for written, run in SHORTER.items():
            code = code.replace(written, run)
        run_cell(code, f"{path.name}, cell {number}", names)
    assert {"COUNT = 400", '"num_train_epochs": 8'} <= shortened


def run_cell(code, name, names):
    """Runs a cell as a notebook does: the value of an expression at its end is shown."""
    tree = ast.parse(code, name)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), names)
    if last:
        assert repr(eval(compile(ast.Expression(last.value), name, "eval"), names))

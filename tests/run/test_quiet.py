"""What a run's terminal shows beside its own."""

import subprocess
import sys
import warnings

import pytest

from dualvqa.run.errors import plain_errors

CODE = """
import logging, sys
from tqdm import tqdm
from transformers.utils import logging as transformers_logging
from dualvqa.run.quiet import quiet
with quiet():
    with tqdm(total=2, file=sys.stdout, ascii=True) as bar:
        bar.update()
        logging.getLogger("dualvqa").info("a line")
        transformers_logging.get_logger("transformers.x").warning("another")
        for _ in transformers_logging.tqdm(range(3), desc="Loading weights"):
            pass
logging.getLogger("dualvqa").info("the end")
"""


@pytest.mark.slow
def test_lines_stand_above_a_bar_and_other_bars_are_not_shown():
    shown = subprocess.run([sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert shown.returncode == 0, shown.stdout
    lines = shown.stdout.replace("\r", "\n").splitlines()
    assert "a line" in lines and "[transformers] another" in lines and lines[-1] == "the end"
    assert "Loading weights" not in shown.stdout


def test_a_warning_is_its_text_without_the_line_of_code_that_gave_it():
    before = warnings.formatwarning
    with plain_errors():
        said = warnings.formatwarning("the maps are left out", UserWarning, "/some/file.py", 3)
    assert said == "the maps are left out\n" and warnings.formatwarning is before

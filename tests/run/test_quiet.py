"""What a run's terminal shows beside its own."""

import subprocess
import sys

import pytest

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

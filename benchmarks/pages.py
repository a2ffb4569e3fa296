"""What every benchmark does: reads its flags, writes its page of results. Without torch: some measure their memory."""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 120  # of a page's lines


def build_parser(description):
    """A parser that shows a script's docstring as it is written, and takes no abbreviations."""
    formatter = argparse.RawTextHelpFormatter
    return argparse.ArgumentParser(description=description, formatter_class=formatter, allow_abbrev=False)


def run_alone(*flags):
    """Runs this script with other flags in a process of its own; gives what its last line is, in JSON."""
    command = [sys.executable, sys.argv[0], *map(str, flags)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def command():
    """The command that this process was started with, its paths as seen from the project's folder, on short lines."""
    lines = [f"python benchmarks/{Path(sys.argv[0]).name}"]
    for argument in sys.argv[1:]:
        word = shlex.quote(argument.removeprefix(f"{ROOT}/"))
        if len(lines[-1]) + len(word) < WIDTH - len(" \\"):
            lines[-1] += f" {word}"
        else:
            lines.append(f"    {word}")
    return " \\\n".join(lines)


def table(head, rows):
    """Markdown of a list of column names and a list of rows."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def write_page(path, text):
    """Writes a page of results. Its title and what was found, the bold paragraph under it, stay as they were."""
    path = Path(path)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    start = next((number for number, line in enumerate(lines) if line.startswith("**")), None)
    if start is not None and not any(lines[1:start]):  # nothing but blank lines between the title and it
        end = next((number for number, line in enumerate(lines[start:], start) if not line), len(lines))
        text = "\n".join([lines[0], "", *lines[start:end], text.partition("\n")[2]])
    path.write_text(text, encoding="utf-8")

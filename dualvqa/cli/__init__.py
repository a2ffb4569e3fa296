"""The console command `dualvqa`: reads and checks its arguments before anything large is imported."""

import sys

from dualvqa.run.errors import plain_errors
from dualvqa.run.values import hint

from . import asking, exporting, predicting, runs, serving, teaching
from .info import info

ABOUT = """usage: dualvqa COMMAND ...

Compact visual question answering: trains, asks and shares DualVQA models.
"""
COMMANDS = {
    "train": (runs.train, "[RECIPE] [--flag value ...]", "train a model on your data, or with a shipped recipe"),
    "ask": (asking.ask, "FOLDER IMAGE QUESTION...", "answer questions about an image"),
    "evaluate": (runs.evaluate, "FOLDER [RECIPE] [--flag ...]", "measure a saved model, and write a report"),
    "predict": (predicting.predict, "FOLDER DATA --output FILE", "answer the questions of a file of any size"),
    "merge": (predicting.merge, "OUTPUT", "put the parts of predict --shard together"),
    "calibrate": (runs.calibrate, "FOLDER [RECIPE] [--flag ...]", "make a saved model's scores true"),
    "explain": (asking.explain, "FOLDER IMAGE QUESTION", "draw what spoke for an answer"),
    "teach": (teaching.teach, "FOLDER FILE", "add answers to a saved model's memory, or take them out"),
    "export": (exporting.export, "FOLDER OUTPUT_DIR", "write a saved model as ONNX files, or as a web page"),
    "serve": (serving.serve, "FOLDER [--flag ...]", "answer questions over HTTP"),
    "renew": (serving.renew, "FOLDER", "give a saved model this version's code, card and handler"),
    "compare": (asking.compare, "RUN RUN...", "compare evaluated runs, with tests of their differences"),
    "info": (info, "FOLDER", "what a saved folder is, learned from and reached"),
}


def main(argv=None):
    """One command, from its arguments; those of the command line when left out."""
    argv = sys.argv[1:] if argv is None else argv
    with plain_errors():
        name, *arguments = argv or ["--help"]
        if name in ("-h", "--help"):
            print(overview())
        elif name == "--version":
            from dualvqa import __version__

            print(f"dualvqa {__version__}")
        elif name not in COMMANDS:
            close = hint(name, COMMANDS)
            raise ValueError(f"there is no command {name!r}{close or ';'} the commands are {', '.join(COMMANDS)}")
        else:
            COMMANDS[name][0](arguments)


def overview():
    """The page of `dualvqa --help`."""
    lines = [f"  {name:<10} {usage:<30} {about}" for name, (_, usage, about) in COMMANDS.items()]
    end = "dualvqa COMMAND --help says more; dualvqa --version tells the version."
    return "\n".join([ABOUT, *lines, "", end])

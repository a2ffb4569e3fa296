"""Errors in the words of who reads them: settings are flags on the command line, and arguments in Python."""

import contextlib
import functools
import re

command_lines = []  # one while a run is on that flags have started

# What errors say for the command line, and what it is in Python; in this order.
IN_PYTHON = [
    (r"--\w+( \w+)?, in Python( as| with)? ", ""),  # said for both already
    (r"--model_name_or_path ([^\s,;:)]+)", r"load_model('\1')"),
    (r"--model_name_or_path", "load_model"),
    (r"--resume_from_checkpoint ([^\s,;:)]*/[^\s,;:)]*)", r"train(resume_from_checkpoint='\1')"),
    (r"--train_file", "train_dataset"),
    (r"--validation_file", "eval_dataset"),
    (r"--do_train", "train()"),
    (r"--config (?=\w)", ""),
    (r"(?<!launch )--(\w+)[ =](\d[\d.]*\d|\d)\b", r"\1=\2"),
    (r"--(\w+)[ =](?i:true)\b", r"\1=True"),
    (r"--(\w+)[ =](?i:false)\b", r"\1=False"),
    (r"(?<![\w-])(?<!launch )--(?=[a-z])", ""),
]


@contextlib.contextmanager
def command_line():
    """What goes wrong in here is read by someone who gives flags."""
    command_lines.append(True)
    try:
        yield
    finally:
        command_lines.pop()


def in_python(text):
    """An error's text with arguments in place of flags: "give a larger --max_risk" -> "give a larger max_risk"."""
    for flag, argument in IN_PYTHON:
        text = re.sub(flag, argument, text)
    return text


def worded(text):
    """An error's text, or a warning's, for whoever reads it now."""
    return text if command_lines else in_python(text)


def python_words(function):
    """A function whose errors name arguments, unless a command line has called it."""

    @functools.wraps(function)
    def called(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except (ValueError, OSError) as error:
            if len(error.args) == 1 and isinstance(error.args[0], str):
                error.args = (worded(error.args[0]),)
            raise

    return called


def speaking_python(*names):
    """A class decorator: errors of these methods, also of inherited ones, name arguments."""

    def decorate(of):
        for name in names:
            setattr(of, name, python_words(getattr(of, name)))
        return of

    return decorate

"""The flags of a run, parsed and checked in a moment: nothing here imports torch, transformers or datasets.

What flags there are is in flags.json, which `python -m dualvqa.run.describe_flags` makes from the dataclasses.
"""

import argparse
import contextlib
import functools
import importlib.metadata
import json
import operator
import typing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from .recipe import read_recipe, read_yaml
from .requests import check_request
from .values import checked, hint

PATH = Path(__file__).with_name("flags.json")
KINDS = {"bool": bool, "int": int, "float": float, "str": str, "dict": dict, "null": type(None), "list": list}
KINDS |= {f"list[{name}]": list[KINDS[name]] for name in ("int", "float", "str")}


@dataclass
class Flag:
    """One setting of a run, as flags.json describes it.

    Attributes:
        name: of the field, and after two dashes of the flag.
        kinds: names of its types, of `KINDS`.
        default: its default.
        limits: its range, or a tuple of choices: see `values_dualvqa`.
        help: what it does.
        group: title of the group it is shown in.
    """

    name: str
    kinds: list
    default: typing.Any
    limits: str | tuple | None
    help: str
    group: str

    @property
    def is_list(self):
        return any(kind.startswith("list") for kind in self.kinds)

    @property
    def is_switch(self):
        return "bool" in self.kinds

    def read(self, value):
        """A value from the command line or a recipe, brought to the flag's type and checked.

        Raises:
            ValueError: it doesn't fit; the message has the name, what is expected and what was found.
        """
        if self.is_list and "str" in self.kinds and isinstance(value, list) and len(value) == 1:
            value = value[0]  # report_to takes one name or several
        kind = functools.reduce(operator.or_, (KINDS[kind] for kind in self.kinds))
        return checked(self.name, value, kind, self.limits)

    def read_text(self, text):
        """The same from the command line, where null is None."""
        if text == "null" and "null" in self.kinds:
            return None
        numeric = {"int", "float"} & set(self.kinds) and not isinstance(text, list)
        return self.read(number(text) if numeric else text)


@functools.cache
def load_description():
    """The contents of flags.json, or of what it would be where another version of transformers is installed."""
    description = json.loads(PATH.read_text(encoding="utf-8"))
    if description["transformers"] != importlib.metadata.version("transformers"):
        from .describe_flags import describe  # slower: it imports the classes

        return describe()
    return description


@functools.cache
def load_flags():
    """name -> [`Flag`], in the order of reading."""
    flags = {}
    for group in load_description()["groups"]:
        for name, entry in group["flags"].items():
            limits = tuple(entry["limits"]) if isinstance(entry["limits"], list) else entry["limits"]
            flags[name] = Flag(name, entry["kind"], entry["default"], limits, entry["help"], group["title"])
    return flags


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are a ValueError each, for the one place that shows errors."""

    def error(self, message):
        raise ValueError(message)


def check_flags(argv):
    """Refuses what can be seen to be wrong in a command line, and in the recipe that it names.

    Raises:
        ValueError: see `read_settings`, `config_fields` and `check_request`.
    """
    settings = read_settings(argv)
    config_fields(settings.get("config", []))
    defaults = {name: flag.default for name, flag in load_flags().items()}
    check_request(SimpleNamespace(**{**defaults, **settings}))


def read_settings(argv):
    """The settings of a run that are given: the recipe's, and over them the command line's.

    Args:
        argv: a recipe, by its path or name, if it comes first; then flags.

    Returns:
        dict name -> value of the flag's type. To a recipe's `config` those of --config are added; --config with
        nothing after it leaves both out.

    Raises:
        ValueError: an unknown flag or key, or a value that doesn't fit; the message says which.
    """
    recipe, given = both_settings(argv)
    if given.get("config"):
        given["config"] = recipe.get("config", []) + given["config"]
    return recipe | given


def recipe_settings(argv):
    """The names of the settings that only the recipe gives: see `read_settings`."""
    recipe, given = both_settings(argv)
    return set(recipe) - set(given)


def both_settings(argv):
    """The settings of the recipe, and those of the command line."""
    flags, recipe = load_flags(), {}
    if argv and not argv[0].startswith("-"):
        path, *argv = argv
        recipe = read_recipe(path, flags)
    return recipe, {name: flags[name].read_text(value) for name, value in parse_flags(argv).items()}


def config_fields(settings):
    """["a.b=1"] -> {"a": {"b": 1}}; later settings win.

    Raises:
        ValueError: no "=", or a field that DualVQAConfig doesn't have.
    """
    known, fields = load_description()["config"], {}
    for setting in settings:
        path, found, value = setting.partition("=")
        *parents, last = path.split(".")
        top = parents[0] if parents else last
        if not found or top not in known:
            close = hint(top, known) if found else ""
            raise ValueError(f"--config expects field=value with a field of DualVQAConfig, found {setting!r}{close}")
        place = fields
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ValueError(f"--config: {parent} has a value, and {path} needs it to have fields")
        place[last] = read_yaml(value, f"--config {path}")
    return fields


@functools.cache
def flag_parser():
    """Reads a command line; a run asks several times, and 300 flags take longer to add than to read."""
    parser = Parser(allow_abbrev=False, add_help=False, argument_default=argparse.SUPPRESS)
    for name, flag in load_flags().items():
        if flag.is_list:
            parser.add_argument(f"--{name}", nargs="*")
        elif flag.is_switch:
            parser.add_argument(f"--{name}", nargs="?", const="true")
            parser.add_argument(f"--no_{name}", dest=name, action="store_const", const="false")
        else:
            parser.add_argument(f"--{name}")
    return parser


def parse_flags(argv):
    """What the command line gives, as text: name -> value, or a list of them."""
    parsed, unknown = flag_parser().parse_known_args([with_underscores(argument) for argument in argv])
    if unknown and unknown[0].startswith("-"):
        name = unknown[0].partition("=")[0]
        if name.lstrip("-") in load_description()["config"]:
            close = f"; the model's fields are given with --config {name.lstrip('-')}=VALUE"
        else:
            close = hint(name, [f"--{flag}" for flag in load_flags()])
        raise ValueError(f"unknown argument {unknown[0]}{close}")
    if unknown:
        raise ValueError(f"unexpected argument {unknown[0]!r}: a recipe comes before all flags")
    return vars(parsed)


def with_underscores(argument):
    """--learning-rate=1e-3 -> --learning_rate=1e-3"""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def number(text):
    """ "1" -> 1, "1e-3" -> 0.001; other text as it is, for the message that refuses it."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text

"""Recipes: YAML files with a run's settings, read so that a value means what it looks like."""

import json
import os
import re
from pathlib import Path

import yaml

from dualvqa.shipped import shipped

from .values import hint, shown

LARGEST = 2**18  # bytes of a recipe


class RecipeLoader(yaml.SafeLoader):
    """YAML with the plain values of version 1.2 (core schema), each key once and no aliases.

    PyYAML reads version 1.1, where 1e-6 is text, no and off are false, 010 is 8 and 12:30 is 750.
    """

    yaml_implicit_resolvers = {}

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):  # a few lines of them can stand for gigabytes
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not read: write the value again", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        found = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str) or key in found:
                problem = "is there twice" if isinstance(key, str) else "is no name"
                raise yaml.constructor.ConstructorError(None, None, f"{shown(key)} {problem}", key_node.start_mark)
            found[key] = self.construct_object(value_node, deep=deep)
        return found

    def construct_int(self, node):
        text = self.construct_scalar(node)
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


RecipeLoader.add_constructor("tag:yaml.org,2002:int", RecipeLoader.construct_int)
for tag, pattern, first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
):
    RecipeLoader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), first)


def read_yaml(text, where):
    """The value of some YAML.

    Raises:
        ValueError: it isn't valid; the message is one line.
    """
    try:
        return yaml.load(text, RecipeLoader)
    except RecursionError:
        problem = "nested too deeply"
    except (yaml.YAMLError, ValueError) as error:
        problem = " ".join(str(error).split())
    raise ValueError(f"{where} is not valid YAML: {problem}")


def shipped_recipes():
    """name -> path of the recipes that come with the package: the general ones, and those of public sets."""
    try:
        folder = shipped("recipes")
    except FileNotFoundError:
        return {}
    return {path.stem: str(path) for place in ("", "sets") for path in sorted((folder / place).glob("*.yaml"))}


def find_recipe(name_or_path):
    """The path of a recipe: a file's own, or that of a shipped recipe by its name.

    Raises:
        ValueError: there is neither; the message lists the names that there are.
    """
    if os.path.isfile(name_or_path):
        return name_or_path
    recipes = shipped_recipes()
    if name_or_path in recipes:
        return recipes[name_or_path]
    problem = "it is no file" if os.path.exists(name_or_path) else "no such file"
    close = hint(Path(name_or_path).stem, recipes)
    raise ValueError(
        f"cannot read the recipe {name_or_path}: {problem}{close or ';'} the recipes by name are {', '.join(recipes)}"
    )


def read_recipe(path, flags):
    """A recipe's settings, each brought to the type of its flag; of `config` the list that --config takes.

    Args:
        path: or the name of a shipped recipe.
        flags: name -> [`Flag`], for the keys that there are.

    Raises:
        ValueError: it can't be read, or a key or value doesn't fit; the message has the file's and the key's name.
    """
    path = find_recipe(path)
    recipe = read_yaml(read_text(path), path)
    recipe = {} if recipe is None else recipe
    if not isinstance(recipe, dict):
        raise ValueError(f"{path}: a recipe has lines of the form key: value; found {shown(recipe)}")
    settings = {}
    for key, value in recipe.items():
        if key not in flags:
            raise ValueError(f"{path}: unknown key {key!r}{hint(key, flags)}")
        settings[key] = read_config(value, path) if key == "config" else read_setting(value, flags[key], path)
    return settings


def read_text(path):
    """
    Raises:
        ValueError: too large for a recipe, or no text.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError(f"cannot read the recipe {path}: it is larger than {LARGEST} bytes")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot read the recipe {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot read the recipe {path}: it is no text in UTF-8 ({error.reason})") from error


def read_setting(value, flag, path):
    if flag.is_list and not isinstance(value, (list, dict)) and value is not None:
        value = [value]  # as on the command line, where one value is a list of one
    value = [as_word(item) for item in value] if isinstance(value, list) else as_word(value)
    try:
        return flag.read(value)
    except ValueError as error:
        quotes = "; put it in quotes" if isinstance(value, (int, float)) and "text" in str(error) else ""
        raise ValueError(f"{path}: {error}{quotes}") from None


def as_word(value):
    """true and false as words, which some settings take beside others; where only they are taken they are read back."""
    return str(value).lower() if isinstance(value, bool) else value


def read_config(value, path):
    """The settings of the model's configuration, as a mapping or as on the command line."""
    if isinstance(value, dict):
        return flatten(value)
    if value is not None and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        raise ValueError(f"{path}: config has lines of the form field: value below it; found {shown(value)}")
    return value or []


def flatten(mapping, prefix=""):
    """{"a": {"b": 1}} -> ["a.b=1"], the form that --config takes."""
    items = []
    for key, value in mapping.items():
        inner = isinstance(value, dict) and value
        items += flatten(value, f"{prefix}{key}.") if inner else [f"{prefix}{key}={json.dumps(value, default=str)}"]
    return items

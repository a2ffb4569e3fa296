"""The page of flags that --help shows, from the same data as the flags themselves."""

import re
import shutil
import textwrap

from .flags import load_description, load_flags
from .recipe import shipped_recipes

USAGE = """usage: {usage}

{about}
A recipe is a YAML file with settings, each named like its flag, or the name of one: {recipes}.
What a flag says counts more than the recipe. A list may be empty: --exclude_rows with nothing after it.
"""
METAVARS = {"int": "N", "float": "X", "str": "TEXT", "dict": "JSON", "bool": "true|false"}
FIRST_SENTENCE = re.compile(r".*?(?=\.? *$|\. [A-Z])")  # "et al. 2018" is no end
WIDEST = 110  # columns, also of a wider terminal
HELP_AT = 34  # column that the descriptions begin at


def help_page(usage, about, everything=False, shown=None):
    """The help of a command that takes the flags of a run.

    Args:
        usage: the command and its arguments.
        about: what it does.
        everything: all flags with all that there is to say; else the first sentence, and not those seldom given.
        shown: names of the flags that are shown unless it is everything, where those of training mean nothing.
    """
    width = min(shutil.get_terminal_size().columns, WIDEST)
    usage = USAGE.format(usage=usage, about=about, recipes=", ".join(shipped_recipes()))
    lines = [wrapped for line in usage.splitlines() for wrapped in textwrap.wrap(line, width) or [""]]
    flags, titles = load_flags(), [group["title"] for group in load_description()["groups"]]
    for title in titles if everything else titles[:-1]:
        own = [flag for flag in flags.values() if flag.group == title]
        own = [flag for flag in own if everything or shown is None or flag.name in shown]
        lines += ["", f"{title}:"] if own else []
        for flag in own:
            lines += describe(flag, width, everything)
    if not everything:
        lines += [
            "",
            f"--help-all says more of each, and shows {'all others' if shown else 'the other TrainingArguments'} too.",
        ]
    return "\n".join(lines)


def describe(flag, width, everything):
    """A flag's lines: its name and values, what it does, its range and default."""
    head = f"  --{flag.name} {values_of(flag)}".rstrip()
    text = flag.help if everything else FIRST_SENTENCE.match(flag.help)[0]
    notes = [*([flag.limits] if isinstance(flag.limits, str) else []), *default_of(flag)]
    if notes:
        text += f" [{'; '.join(notes)}]".replace("= ", "=\xa0").replace("> ", ">\xa0").replace("< ", "<\xa0")
    lines = textwrap.wrap(text, max(width - HELP_AT, 30), break_on_hyphens=False, break_long_words=False) or [""]
    if len(head) >= HELP_AT:
        lines.insert(0, "")
    lines[0], lines[1:] = head.ljust(HELP_AT) + lines[0], [" " * HELP_AT + line for line in lines[1:]]
    return [line.replace("\xa0", " ").rstrip() for line in lines]


def values_of(flag):
    if isinstance(flag.limits, tuple):
        return "|".join(flag.limits) if len("|".join(flag.limits)) < 25 else "NAME"
    if flag.is_list:
        item = next(kind for kind in flag.kinds if kind.startswith("list"))[5:-1]
        return f"[{METAVARS.get(item, 'TEXT')} ...]"
    return "" if flag.kinds == ["bool"] and not flag.default else METAVARS[flag.kinds[0]]


def default_of(flag):
    """The default in words, where there is one to show, and the choices that `values_of` leaves out."""
    names = [f"one of {', '.join(flag.limits)}"] if isinstance(flag.limits, tuple) and values_of(flag) == "NAME" else []
    if flag.default in (None, [], "") or flag.default is False:
        return names
    shown = " ".join(flag.default) if isinstance(flag.default, list) else str(flag.default)
    return [*names, f"default {shown.lower() if flag.default is True else shown}"]

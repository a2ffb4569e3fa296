"""How many bytes a distribution takes with all that it needs, counted from what is installed."""

import configparser
import re
import sys
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pages import ROOT


def needs(name):
    """The requirements that a checkout's dualvqa or dualvqa-light writes down."""
    if name == "dualvqa":
        config = configparser.ConfigParser()
        config.read(ROOT / "setup.cfg", encoding="utf-8")
        return config["options"]["install_requires"].split("\n")
    text = (ROOT / "dualvqa_light" / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(r'"([^"]+)"', re.search(r"^dependencies = \[(.*?)\]", text, re.MULTILINE | re.DOTALL).group(1))


def sizes(requirements):
    """Distribution -> bytes of its files, of all that some requirements pull in."""
    found, waiting = {}, [(Requirement(line), "") for line in requirements if line.strip()]
    seen = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) in seen:
                continue
            seen.add((name, wanted))
            try:
                distribution = metadata.distribution(name)
            except metadata.PackageNotFoundError:
                sys.exit(f"{name} is not installed: its size is needed")
            if name not in found:
                files = [distribution.locate_file(file) for file in distribution.files or ()]
                found[name] = sum(file.stat().st_size for file in files if file.is_file())
            waiting += [(Requirement(line), wanted) for line in distribution.requires or ()]
    return found


def own(folders):
    return sum(file.stat().st_size for folder in folders for file in (ROOT / folder).rglob("*.py"))

"""The documentation site. `make docs` builds it into build/docs; pages are Markdown, the reference is of docstrings."""

import importlib
import inspect
import re
from dataclasses import MISSING, fields
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.util.docutils import SphinxDirective

import dualvqa

project = "DualVQA"
author = "the DualVQA authors"
copyright = "the DualVQA authors, Apache-2.0"
version = release = dualvqa.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["README.md"]

# Docstrings are Google's style with Markdown's single backticks.
default_role = "code"
smartquotes = False  # two hyphens begin a flag
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"show-inheritance": True}
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"DualVQA {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False


class Settings(Directive):
    """A definition list of a dataclass's own fields: name, default and the text that `--help` shows."""

    required_arguments = 1

    def run(self):
        module, _, name = self.arguments[0].rpartition(".")
        group = getattr(importlib.import_module(module), name)
        own = inspect.get_annotations(group)
        entries = [entry(field) for field in fields(group) if field.name in own]
        return [nodes.definition_list("", *entries, classes=["settings"])]


def entry(field):
    """One field as an item of a definition list."""
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    shown = "required" if default is MISSING else repr(default)
    term = nodes.term("", "", nodes.literal(text=field.name), nodes.inline(text=f" = {shown}", classes=["default"]))
    text = field.metadata.get("help", "")
    return nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph(text=text)))


class Findings(SphinxDirective):
    """A line for each of the pages named: a link with its title, and what was found, as the page itself says it."""

    has_content = True

    def run(self):
        lines = []
        for name in self.content:
            path = Path(self.env.srcdir) / Path(self.env.docname).parent / f"{name}.md"
            self.env.note_dependency(str(path))
            found = FOUND.match(path.read_text(encoding="utf-8"))
            lines.append(f"- [{found[1]}]({name}.md): " + " ".join(found[2].split()))
        return self.parse_text_to_nodes("\n".join(lines))


FOUND = re.compile(r"# (.+)\n\n\*\*Found:\*\* ((?:.+\n)+)")


def as_rst(app, what, name, obj, options, lines):
    """What docstrings write in the manner of Markdown: [`X`] is X, and fenced code is a block."""
    found, inside = [], False
    for line in lines:
        text = line.strip()
        if text.startswith("```"):
            inside = not inside
            found += [line.replace(text, ".. code-block:: python"), ""] if inside else [""]
        elif inside:
            found.append("    " + line)
        else:
            line = re.sub(r"\[(`[^`]+`)\]", r"\1", line)
            found.append(line.replace("*args, **kwargs:", r"\*args, \*\*kwargs:"))
    lines[:] = found


def keep_together(app, page, source):
    """A mean and its deviation stay in one line."""
    source[0] = source[0].replace(" ± ", "\u00a0±\u00a0")


def setup(app):
    app.connect("source-read", keep_together)
    app.connect("autodoc-process-docstring", as_rst, priority=400)  # before napoleon
    app.add_directive("settings", Settings)
    app.add_directive("findings", Findings)

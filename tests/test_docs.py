"""README and the documentation site say what is there, and the site builds."""

import re
from io import StringIO

import pytest
from helpers import ROOT

import dualvqa

TESTS = ROOT / "tests"
RESULTS = ROOT / "docs/results"
PAGES = sorted(path for path in RESULTS.glob("*.md") if path.stem != "index")


def test_the_readme_is_short_and_in_the_order_of_a_newcomer():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    wanted = ["Install", "The demo", "Ask a saved model", "Train on your own data", "What it reached", "Documentation"]
    assert re.findall(r"^## (.+)$", text, re.M) == wanted


def test_every_test_that_the_page_for_users_of_transformers_names_exists():
    text = (ROOT / "docs/explanations/transformers.md").read_text(encoding="utf-8")
    named = []
    for row in text.splitlines():
        for file, test in re.findall(r"`(?:(test_\w+\.py)::)?(test_\w+)`", row):
            named.append((file or named[-1][0], test))
    assert len(named) > 35
    for file, test in named:
        assert re.search(rf"^def {test}\(", next(TESTS.rglob(file)).read_text(encoding="utf-8"), re.M), (
            f"{file}::{test}"
        )


def test_every_measured_page_opens_with_what_was_found_and_is_in_the_index():
    index = (RESULTS / "index.md").read_text(encoding="utf-8").splitlines()
    for path in PAGES:
        assert re.match(r"# .+\n\n\*\*Found:\*\* \S", path.read_text(encoding="utf-8")), path.name
        assert path.stem in index, path.name
    commands = re.findall(r"--output (docs/\S+\.md)", "\n".join(path.read_text(encoding="utf-8") for path in PAGES))
    assert len(commands) > 20 and all((ROOT / command).exists() for command in commands)


def test_everything_public_is_in_the_reference():
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs/reference").glob("*.md"))
    assert [name for name in dualvqa.PLACES if not re.search(rf"\b{name}\b", text)] == []


def test_relative_links_of_readme_and_pages_lead_somewhere():
    for path in [ROOT / "README.md", ROOT / "model_card.md", *(ROOT / "docs").rglob("*.md")]:
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
        for link in re.findall(r"\]\((?!https?:|#)([^)\s#]+)", text):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sphinx.deprecation.RemovedInSphinx11Warning")  # theirs, not the pages'
def test_the_site_builds_without_a_warning(tmp_path):
    from sphinx.application import Sphinx

    warnings = StringIO()
    folders = [ROOT / "docs", ROOT / "docs", tmp_path / "site", tmp_path / "doctrees"]
    Sphinx(*map(str, folders), "dummy", status=None, warning=warnings).build()
    assert warnings.getvalue() == ""

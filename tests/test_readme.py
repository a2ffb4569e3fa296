"""The README names tests; they must be there."""

import re
from pathlib import Path

TESTS = Path(__file__).parent


def test_every_test_that_the_readme_names_exists():
    text = (TESTS.parent / "README.md").read_text(encoding="utf-8")
    table = re.search(r"^## What users of transformers expect\n(.*?)^## ", text, re.M | re.S).group(1)
    named = []
    for row in table.splitlines():
        for file, test in re.findall(r"`(?:(test_\w+\.py)::)?(test_\w+)`", row):
            named.append((file or named[-1][0], test))
    assert len(named) > 35
    for file, test in named:
        assert re.search(rf"^def {test}\(", next(TESTS.rglob(file)).read_text(encoding="utf-8"), re.M), (
            f"{file}::{test}"
        )

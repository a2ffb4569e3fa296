"""The page's packages: what is said where npm is missing or fails, and that a second export needs no npm."""

import json

import pytest

from dualvqa.deployment import web_packages
from dualvqa.deployment.web_packages import FILES, fetched
from dualvqa.shipped import shipped

PAGE = shipped("web")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_a_missing_npm_is_named_with_what_to_do(home, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="npm fetches the two packages .* install Node.js"):
        fetched(PAGE)


def test_a_failing_npm_is_told_and_leaves_nothing(home, monkeypatch):
    npm = home / "npm"
    npm.write_text("#!/bin/sh\necho no such host >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(web_packages.shutil, "which", lambda name: str(npm))
    with pytest.raises(ValueError, match="is there a network.* no such host"):
        fetched(PAGE)
    assert not list((home / "dualvqa").iterdir())


def test_what_npm_brought_is_kept(home, monkeypatch):
    def install(page, folder):
        for package, files in FILES.values():
            for file in files:
                path = folder / "node_modules" / package / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(file)

    monkeypatch.setattr(web_packages, "install", install)
    kept = fetched(PAGE)
    assert (kept / "tokenizers" / "tokenizers.min.mjs").read_text() == "dist/tokenizers.min.mjs"
    monkeypatch.setattr(web_packages, "install", None)
    assert fetched(PAGE) == kept


def test_the_lock_file_pins_both_packages_and_names_no_host():
    lock = (PAGE / "package-lock.json").read_text()
    assert "http" not in lock
    packages = json.loads(lock)["packages"]
    for name, version in json.loads((PAGE / "package.json").read_text())["dependencies"].items():
        assert packages[f"node_modules/{name}"]["version"] == version
        assert packages[f"node_modules/{name}"]["integrity"].startswith("sha512-")

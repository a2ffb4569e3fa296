"""The Dockerfile, as far as it can be tried without Docker: what it copies is there, and its command is one of ours."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from helpers import ROOT

from dualvqa_light import serve
from dualvqa_light.server_settings import read_flags

LINES = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8")).splitlines()
STEPS = [tuple(line.split(maxsplit=1)) for line in LINES if line and not line.startswith("#")]


def arguments(name):
    return [found for step, found in STEPS if step == name]


def test_it_has_a_user_a_health_check_and_nothing_but_copies_from_the_context():
    assert {step for step, _ in STEPS} == {
        *("FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "EXPOSE"),
        *("STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "ARG"),
    }
    assert arguments("FROM") == ["python:3.12-slim AS server", "server"]
    assert arguments("USER") == ["10001"] and "--uid 10001" in " ".join(arguments("RUN"))
    assert "/health" in arguments("HEALTHCHECK")[0] and arguments("STOPSIGNAL") == ["SIGTERM"]
    assert STEPS[-1] == ("COPY", "${MODEL} /model")


def test_what_starts_is_the_server_with_flags_that_it_has():
    program, *flags = json.loads(arguments("ENTRYPOINT")[0])
    scripts = re.search(r"\[project\.scripts\]\n(\S+) =", (ROOT / "dualvqa_light/pyproject.toml").read_text())
    assert program == scripts[1]
    parsed = serve.serve_parser(program, serve.argparse.ArgumentParser).parse_args(flags)
    assert parsed.folder == "/model" and read_flags(parsed).host == "0.0.0.0"
    assert str(read_flags(parsed).port) == arguments("EXPOSE")[0]


def test_what_it_copies_is_there_and_not_left_out_of_the_context():
    copied = [found.split()[0] for found in arguments("COPY")[:-1]]
    kept = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.M)
    assert set(copied) < {*kept} and all((ROOT / name).exists() for name in copied)


@pytest.mark.slow
def test_the_light_package_builds_from_what_is_copied_and_finds_its_server(tmp_path):
    for name in (found.split()[0] for found in arguments("COPY")[:-1]):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(tmp_path / "installed")]
    install = [sys.executable, "-m", "pip", "install", *options, "./dualvqa_light[serve]"]
    subprocess.run(install, cwd=tmp_path, check=True)
    shutil.rmtree(tmp_path / "processing")  # as in the image
    shutil.rmtree(tmp_path / "dualvqa_light")
    start = "import dualvqa_light.server, dualvqa_light.serve as s; print(s.__file__); s.main(['--help'])"
    environment = {"PYTHONPATH": str(tmp_path / "installed"), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", start]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "installed")) and "--max_batch_size" in done.stdout

"""onnxruntime is loaded without what reports to its makers."""

import os
import subprocess
import sys

import pytest
from helpers import ROOT

from dualvqa_light.folder import import_onnxruntime

LOAD = "from dualvqa_light.folder import import_onnxruntime; import_onnxruntime()"


@pytest.mark.slow
def test_nothing_of_it_is_written_to_the_home_folder(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", LOAD], cwd=ROOT, env=environment, check=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("0", "0")])
def test_who_has_decided_otherwise_keeps_that(monkeypatch, before, after):
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "")  # so that it is as before at the end
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    if before is not None:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", before)
    import_onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == after

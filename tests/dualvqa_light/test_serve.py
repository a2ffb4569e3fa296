"""The command that serves a folder: its flags, and a process that is stopped while it is asked."""

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from helpers import COLOR, RED, ROOT
from serving_helpers import base64_of, picture

from dualvqa_light import serve
from dualvqa_light.server_settings import ServerSettings, read_flags


def settings(*flags):
    return read_flags(serve.serve_parser("dualvqa serve", serve.argparse.ArgumentParser).parse_args(["folder", *flags]))


def test_every_field_is_a_flag_with_its_default():
    assert settings() == ServerSettings()
    found = settings("--port", "0", "--max_wait_ms", "2.5", "--allow_hosts", "a.org", "b.org:80", "--access_log")
    assert found == ServerSettings(port=0, max_wait_ms=2.5, allow_hosts=("a.org", "b.org:80"), access_log=True)


def test_by_itself_a_server_opens_neither_files_nor_urls():
    closed = settings().image_sources
    assert (closed.folders, closed.hosts, closed.max_pixels, closed.max_bytes) == ((), (), 50_000_000, 2**24)
    assert settings("--allow_urls").image_sources.hosts is None
    assert not settings("--allow_urls").image_sources.internal
    assert settings("--allow_urls", "--allow_hosts", "a.org").image_sources.hosts == ("a.org",)
    assert settings("--allow_folders", "/").image_sources.folders == ("/",)


@pytest.mark.parametrize(
    "wrong", [{"port": -1}, {"max_batch_size": 0}, {"max_body_mib": float("nan")}, {"max_requests": 2.5}]
)
def test_a_setting_out_of_range_is_named(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a .*number"):
        ServerSettings(**wrong)


@pytest.mark.parametrize("origin", ["a.org", "https://a.org/", "https://a.org/page", "https://A.org", "https://*", ""])
def test_an_origin_that_no_browser_sends_is_refused(origin):
    with pytest.raises(ValueError, match="allow_origins must be like https://a.org"):
        ServerSettings(allow_origins=(origin,))
    assert settings("--allow_origins", "https://a.org", "http://localhost:3000", "*").allow_origins[2] == "*"


def test_a_folder_that_is_none_is_told_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(serve, "serve", lambda *_: pytest.fail("served"))
    for written, said in ((None, "expected a folder that `dualvqa export` wrote"), (1, "ONNX files of format 1")):
        if written:
            (tmp_path / "onnx.json").write_text(json.dumps({"format": written, "files": {}}))
        with pytest.raises(SystemExit, match=said):
            serve.main([str(tmp_path)])


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "python_multipart", None)
    with pytest.raises(ImportError, match=r"pip install 'dualvqa-light\[serve\]'"):
        serve.serve("folder", ServerSettings(), name="dualvqa-light")


class Client(threading.Thread):
    """Asks until the server is gone. Every answer has the id of its question."""

    def __init__(self, port, number):
        super().__init__()
        self.port, self.number, self.statuses, self.mixed = port, number, [], []

    def run(self):
        content = {"image": base64_of(picture((9 * self.number, 0, 0))), "question": [COLOR, RED]}
        for turn in range(10_000):
            name = f"{self.number}-{turn}"
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
                headers = {"Content-Type": "application/json", "X-Request-ID": name}
                connection.request("POST", "/answer", json.dumps(content), headers)
                found = connection.getresponse()
                if len(json.load(found)) != 2 or found.headers["X-Request-ID"] != name:
                    self.mixed.append(name)
                self.statuses.append(found.status)
            except OSError:
                return
            finally:
                connection.close()


@pytest.mark.slow
def test_a_server_that_is_stopped_under_load_answers_what_it_has_accepted(exported, tmp_path):
    folder, _ = exported
    command = [sys.executable, "-m", "dualvqa_light.serve", str(folder), "--port", "0", "--access_log"]
    with open(tmp_path / "log", "w+b") as log:
        server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            port = wait_for(lambda: re.search(rb"running on http://127.0.0.1:(\d+)", (tmp_path / "log").read_bytes()))
            clients = [Client(int(port[1]), number) for number in range(8)]
            for client in clients:
                client.start()
            wait_for(lambda: sum(len(client.statuses) for client in clients) >= 40)
            server.send_signal(signal.SIGTERM)
            assert server.wait(30) == 0
        finally:
            server.kill()
        for client in clients:
            client.join(30)
    answered = sum(client.statuses.count(200) for client in clients)
    logged = (tmp_path / "log").read_text()
    assert {status for client in clients for status in client.statuses} <= {200, 503}
    assert not any(client.mixed for client in clients) and answered >= 40
    assert len(re.findall(r'"POST /answer HTTP/1.1" 200', logged)) == answered
    assert "Traceback" not in logged


def wait_for(found, seconds=60):
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return value

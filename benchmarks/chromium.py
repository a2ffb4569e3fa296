"""Chromium without a window, which runs a scenario in a page and sends back what it found."""

import json
import queue
import shutil
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

from dualvqa.deployment.web_server import PageHandler, page_server

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",  # for root, in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


class Network:
    """What a scenario's server does, beside serving files: it can lose the network, or half of a file, or a file."""

    def __init__(self):
        self.results, self.asked = queue.Queue(), []
        self.offline, self.halved, self.replaced = False, set(), {}


def handler(network):
    class Handler(PageHandler):
        def do_GET(self):
            name = urlparse(self.path).path.rpartition("/")[2]
            network.asked.append(name)
            scenarios = {"scenario.js": network.scenario, "user.js": network.scenario.parent / "user.js"}
            if network.offline:
                self.close_connection = True
                self.connection.close()
            elif name in network.halved:
                network.halved.remove(name)
                self.send_half()
            elif name in network.replaced:
                self.send(*network.replaced[name])
            elif name == "scenario.html":
                self.send(200, b"<!doctype html><body><script type=module src=scenario.js></script>", "text/html")
            elif name == "asked.json":
                self.send(200, json.dumps(network.asked).encode(), "application/json")
            elif name in scenarios:
                self.send(200, scenarios[name].read_bytes(), "text/javascript")
            else:
                super().do_GET()

        def do_POST(self):
            found = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            network.offline = found.get("offline", network.offline)
            if found.get("healed"):
                network.replaced = {}
            if "result" in found:
                network.results.put(found["result"])
            self.send(200, b"{}", "application/json")

        def send(self, status, content, kind):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def send_half(self):
            content = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True

    return Handler


@contextmanager
def served(folder, network):
    server = page_server(folder, handler=handler(network))
    # It looks so often whether it is to end.
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def run(folder, scenario, network=None, seconds=120):
    """What a scenario, a JavaScript module, sends back; it is run in a browser with an empty profile.

    Args:
        folder: what is served.
        scenario: path of the module; user.js beside it is served too.
        network: [`Network`], how it is served.
    """
    network = network or Network()
    network.scenario = Path(scenario)
    with served(folder, network) as address, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", f"{address}scenario.html"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            found = network.results.get(timeout=seconds)
        except queue.Empty:
            browser.kill()
            raise AssertionError(f"{scenario} sent nothing in {seconds} s: {browser.stderr.read()[-2000:]}") from None
        finally:
            browser.terminate()
            browser.wait()
    if isinstance(found, dict) and "error" in found:
        raise AssertionError(found["error"])
    return found

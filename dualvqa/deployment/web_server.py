"""Serves a page on this machine, as any web server would: with right types, and isolated, so that threads compute."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

TYPES = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm"}
TYPES |= {".json": "application/json", ".webmanifest": "application/manifest+json", ".svg": "image/svg+xml"}


class PageHandler(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, **TYPES}  # whatever the system's own list says

    def end_headers(self):
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")  # asked for again each time, and sent where it is another
        super().end_headers()

    def log_message(self, *args):
        pass


def page_server(folder, port=0, handler=PageHandler):
    """A server of a folder, for this machine alone; `serve_forever` starts it.

    Args:
        port: 0 takes any that is free: `server_port`.
    """
    return ThreadingHTTPServer(("127.0.0.1", port), partial(handler, directory=str(folder)))

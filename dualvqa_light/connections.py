"""Connections that don't wait for ever: uvicorn limits the time between two requests, and not that of headers."""

import json

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

PER_REQUEST = 16  # connections for each request at a time: others wait, send their headers, or have been answered


def new_server(app, settings):
    """uvicorn with an application, its connections within the limits of [`ServerSettings`]."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=Connection,
        ws="none",
        lifespan="on",
        access_log=settings.access_log,
        server_header=False,
        limit_concurrency=PER_REQUEST * settings.max_requests,
        timeout_keep_alive=settings.header_seconds,
        timeout_graceful_shutdown=settings.stop_seconds,
    )
    return uvicorn.Server(config)


class Connection(H11Protocol):
    """Closes a connection whose next request doesn't begin, or whose headers aren't complete, within the time that
    uvicorn has for the first of these (`timeout_keep_alive`). As in uvicorn 0.54.
    """

    timer = None

    def connection_made(self, transport):
        super().connection_made(transport)
        self.watch()

    def data_received(self, data):
        super().data_received(data)
        self.watch()

    def connection_lost(self, exc):
        self.stop()
        super().connection_lost(exc)

    def watch(self):
        """Starts the time where a request is awaited, however little comes at once; ends it when one is there."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.stop()
        elif self.timer is None:
            self.timer = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def stop(self):
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def send_400_response(self, msg):
        """As in uvicorn, as JSON like all other errors."""
        content = json.dumps({"error": f"expected HTTP/1.1: {msg}"}).encode()
        headers = [("content-type", "application/json"), ("connection", "close")]
        headers.append(("content-length", str(len(content))))
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            head = self.conn.send(h11.Response(status_code=400, headers=headers, reason=b"Bad Request"))
            self.transport.write(head + self.conn.send(h11.Data(data=content)) + self.conn.send(h11.EndOfMessage()))
        self.transport.close()

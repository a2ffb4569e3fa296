"""Bodies of requests, read within limits of size and time, and answers to those that are not read."""

import asyncio
import time

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

DRAIN_SECONDS = 5.0


async def read_body(request, max_bytes, seconds):
    """The whole body of a request.

    Raises:
        HTTPException: 413 where it is larger, by its Content-Length before anything of it is read, or else as it comes;
            408 where it isn't there in time; 400 where the length is no number.
        ClientDisconnect: the client has gone.
    """
    length = request.headers.get("content-length")
    if length is not None and not (length.isascii() and length.isdecimal()):
        raise HTTPException(400, f"expected Content-Length to be a number, found {length!r:.50}")
    too_large = HTTPException(413, f"expected a body of at most {max_bytes} bytes, found {length or 'more'}")
    if length is not None and (len(length) > 15 or int(length) > max_bytes):
        raise too_large
    chunks, size, deadline = [], 0, time.monotonic() + seconds
    stream = request.stream()
    while True:
        try:
            chunk = await asyncio.wait_for(anext(stream), deadline - time.monotonic())
        except StopAsyncIteration:
            return b"".join(chunks)
        except asyncio.TimeoutError:
            found = f"{size} bytes of it" if length is None else f"{size} of {length} bytes"
            raise HTTPException(408, f"expected the body within {seconds:g} seconds, found {found}") from None
        size += len(chunk)
        if size > max_bytes:
            raise too_large
        chunks.append(chunk)


class Refusal(JSONResponse):
    """The answer to a request whose body isn't read: it is sent at once, and then the connection is closed.

    What is on its way is thrown away first, for some seconds: a client that is cut off while it sends wouldn't see the
    answer. One that was too slow has one second.
    """

    def init_headers(self, headers=None):
        super().init_headers({**(headers or {}), "Connection": "close"})

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        asks_first = any(name == b"expect" for name, _ in scope["headers"])  # and sends nothing until it is answered
        if not asks_first:
            seconds = min(DRAIN_SECONDS, 1.0) if self.status_code == 408 else DRAIN_SECONDS
            try:
                await asyncio.wait_for(drain(receive), seconds)
            except asyncio.TimeoutError:
                pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def drain(receive):
    """Reads to the end of a body, or of the connection."""
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass

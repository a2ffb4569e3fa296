"""An exported folder behind HTTP: POST /answer, GET /health, /ready, /docs and /openapi.json.

```python
from dualvqa_light.server import create_app

app = create_app("runs/mine_onnx")  # for any ASGI server; dualvqa_light.serve runs it within all its limits
```
"""

import asyncio
import contextlib
import functools
import logging
import re

from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from .batcher import Batcher, Stopped
from .body import Refusal, read_body
from .openapi import PAGE, describe
from .payload import check, from_form, from_json
from .pipeline import LightPipeline
from .server_settings import ServerSettings

logger = logging.getLogger(__name__)

JSON, FORM = "application/json", "multipart/form-data"
EXPOSED = ["X-Request-ID", "Retry-After"]  # headers that pages of other origins may read
WHAT_THERE_IS = "POST /answer; GET /health, /ready, /docs and /openapi.json"
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


def create_app(folder, settings=None, open_folder=LightPipeline):
    """The server as an ASGI application; its model is loaded, and has answered once, when this returns.

    Args:
        folder: what `dualvqa export` wrote, or what `open_folder` takes.
        settings: [`ServerSettings`]; the host, the port and what concerns connections are `dualvqa_light.serve`'s.
        open_folder: called with the folder, `image_sources`, `embedding_cache_mib` and `threads`, gives a pipeline. Its
            image sources are the settings': by themselves nothing but what a request brings.

    Raises:
        ValueError: the folder can't be read, or doesn't answer.
    """
    settings = settings or ServerSettings()
    pipe = open_folder(
        folder,
        image_sources=settings.image_sources,
        embedding_cache_mib=settings.embedding_cache_mib,
        threads=settings.threads or None,
    )
    return Server(pipe, settings).app()


class Server:
    """What the requests have in common: the batches, and how many requests there are."""

    def __init__(self, pipe, settings):
        self.settings, self.busy, self.document = settings, 0, describe(settings)
        self.batcher = Batcher(pipe, settings.max_batch_size, settings.max_wait_ms, settings.readers)
        row = {"image": Image.new("RGB", (64, 64)), "question": "is it there?"}
        job = self.batcher.read(lambda: (row, {"abstain": False})).result()
        self.batcher.answer(job).result()  # the first answer takes longer than others, and may fail

    def app(self):
        routes = [
            Route("/answer", self.answer, methods=["POST"]),
            Route("/health", self.health),
            Route("/ready", self.ready),
            Route("/openapi.json", self.openapi),
            Route("/docs", self.docs),
        ]
        handlers = {HTTPException: refused, ClientDisconnect: left, Exception: failed}
        app = Starlette(
            routes=routes, middleware=self.middleware(), exception_handlers=handlers, lifespan=self.lifespan
        )
        app.state.server = self
        return app

    def middleware(self):
        """Lets browsers show answers to pages of the origins that are allowed; by itself there is none."""
        origins = list(self.settings.allow_origins)
        shown = {"allow_methods": ["GET", "POST"], "allow_headers": ["*"], "expose_headers": EXPOSED}
        return [Middleware(CORSMiddleware, allow_origins=origins, **shown)] if origins else []

    @contextlib.asynccontextmanager
    async def lifespan(self, app):
        yield
        await asyncio.to_thread(self.batcher.close)

    async def health(self, request):
        """Whether the process is there."""
        return JSONResponse({"status": "ok"})

    async def ready(self, request):
        """Whether a question would be answered now."""
        if not self.batcher.alive or self.busy >= self.settings.max_requests:
            raise HTTPException(503, "not ready: stopping, or too many requests at a time", {"Retry-After": "1"})
        return JSONResponse({"status": "ready", "requests": self.busy})

    async def openapi(self, request):
        return JSONResponse(self.document)

    async def docs(self, request):
        return HTMLResponse(PAGE, headers={"Content-Security-Policy": "default-src 'self' 'unsafe-inline' data:"})

    async def answer(self, request):
        """The answers to one request, as the pipeline gives them."""
        if self.busy >= self.settings.max_requests:
            raise HTTPException(
                503, f"{self.busy} requests at a time are answered, and there are as many", {"Retry-After": "1"}
            )
        self.busy += 1
        try:
            row = await self.row_of(request)
            answers = await self.answered(request, row)
        except (HTTPException, ClientDisconnect):
            raise
        except Exception as error:  # starlette's own handler is outside of what shows answers to other origins
            return await failed(request, error)
        finally:
            self.busy -= 1
        name = request.headers.get("x-request-id", "")
        return JSONResponse(answers, headers={"X-Request-ID": name} if REQUEST_ID.fullmatch(name) else None)

    async def row_of(self, request):
        """A function that gives the row of a request and its options; JSON is read in a thread, not here."""
        settings, kind = self.settings, request.headers.get("content-type", "").partition(";")[0].strip().lower()
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity":
            raise HTTPException(415, f"expected a body that is not compressed, found Content-Encoding {encoding!r:.50}")
        if kind not in (JSON, FORM):
            raise HTTPException(415, f"expected Content-Type {JSON} or {FORM}, found {kind[:100]!r}")
        body = await read_body(request, settings.max_body, settings.body_seconds)
        request.state.read = True
        if kind == JSON:
            return lambda: check(*from_json(body), settings.max_questions)
        row = check(*await from_form(body, request.headers, settings.max_questions), settings.max_questions)
        return lambda: row

    async def answered(self, request, row):
        gone = asyncio.ensure_future(request.receive())  # the body is here: what comes now is that the client went away
        wait = functools.partial(self.wait, gone, asyncio.get_running_loop().time() + self.settings.answer_seconds)
        try:
            return await wait(self.batcher.answer(await wait(self.batcher.read(row))))
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        except (Stopped, RuntimeError) as error:
            if self.batcher.alive:
                raise
            raise HTTPException(503, "the server is being stopped", {"Retry-After": "5"}) from error
        finally:
            gone.cancel()

    async def wait(self, gone, deadline, future):
        """What a future gives, unless the client goes away or the time is over: then it is cancelled."""
        future = asyncio.wrap_future(future)
        left = deadline - asyncio.get_running_loop().time()
        done, _ = await asyncio.wait({future, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if future in done:
            return future.result()
        future.cancel()
        if gone in done:
            raise ClientDisconnect
        raise HTTPException(504, f"no answer within {self.settings.answer_seconds:g} seconds", {"Retry-After": "5"})


async def refused(request, error):
    """Errors as JSON: {"error": what was expected and what was found}."""
    said = error.detail
    if error.status_code in (404, 405):
        said = f"expected {WHAT_THERE_IS}; found {request.method} {request.url.path[:100]}"
    content = {"error": str(said).encode("utf-8", "backslashreplace").decode()}
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    unread = has_body and not getattr(request.state, "read", False)
    return (Refusal if unread else JSONResponse)(content, error.status_code, error.headers)


async def left(request, error):
    return Response(status_code=499)  # which nobody reads


async def failed(request, error):
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse({"error": "the server failed; its log says how"}, 500)

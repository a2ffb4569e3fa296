"""The command that serves a folder over HTTP: python -m dualvqa_light.serve FOLDER"""

import argparse
import signal
import sys

from .folder import read_manifest
from .pipeline import LightPipeline
from .server_settings import add_flags, read_flags

EXTRA = "a server needs starlette, uvicorn and python-multipart: pip install '{name}[serve]' ({error})"


def main(argv=None):
    """Serves an exported folder until it is stopped; for machines without torch."""
    parser = serve_parser("dualvqa-light", argparse.ArgumentParser)
    parsed = parser.parse_args(argv)
    try:
        read_manifest(parsed.folder)
        serve(parsed.folder, read_flags(parsed), name="dualvqa-light")
    except (ValueError, ImportError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")


def serve_parser(program, kind):
    """The parser of the command's folder and flags."""
    about = "Answers questions over HTTP: POST /answer; GET /health, /ready and /docs."
    parser = kind(prog=program, description=about, allow_abbrev=False)
    parser.add_argument("folder", help="the model: what `dualvqa export` wrote, or with torch a saved folder")
    add_flags(parser)
    return parser


def serve(folder, settings, open_folder=LightPipeline, name="dualvqa"):
    """Serves a folder until SIGTERM or SIGINT; requests that were accepted are answered before this returns.

    Args:
        settings: [`ServerSettings`].
        open_folder: see [`create_app`].
        name: of the distribution whose extra has the libraries.

    Raises:
        ImportError: they are missing.
    """
    try:
        import python_multipart  # noqa: F401 - starlette's forms

        from .connections import new_server
        from .server import create_app
    except ImportError as error:
        raise ImportError(EXTRA.format(name=name, error=error)) from error
    server = new_server(create_app(folder, settings, open_folder), settings)
    # uvicorn raises the signal that stopped it once more when all is done: that shall not end the process by itself.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main()

"""The demo's model as a page in the browser: python demo/web.py FOLDER OUTPUT_DIR writes it and serves it."""

import json
import logging
import sys
from pathlib import Path

from dualvqa.deployment.web_export import export_web
from dualvqa.deployment.web_server import page_server

PICTURES, QUESTIONS = 8, 4  # offered by the page
PORT = 8000


def examples(folder):
    """The first test images of a run, each with the first questions about it."""
    asked = {}
    for line in (folder / "predictions.jsonl").open(encoding="utf-8"):
        row = json.loads(line)
        asked.setdefault(row["image"], []).append(row["question"])
    return [{"image": image, "questions": found[:QUESTIONS]} for image, found in list(asked.items())[:PICTURES]]


def any_port(output_dir):
    """A server at the usual port, or another where that is taken."""
    try:
        return page_server(output_dir, PORT)
    except OSError:
        return page_server(output_dir)


def main():
    folder, output_dir = map(Path, sys.argv[1:])
    logging.basicConfig(format="%(message)s")
    logging.getLogger("dualvqa").setLevel(logging.INFO)
    export_web(folder, output_dir, examples=examples(folder))
    with any_port(output_dir) as server:
        print(f"\nOpen http://localhost:{server.server_port}/ in a browser; Ctrl+C ends it.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()

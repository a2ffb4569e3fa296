"""The two JavaScript packages that the web page is made with, fetched by npm and kept for the next export."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from dualvqa_light.folder import file_hash

LOCK = "package-lock.json"
# Folder of the page -> package, and the files of it that the page loads.
FILES = {
    "tokenizers": ("@huggingface/tokenizers", ("dist/tokenizers.min.mjs", "LICENSE")),
    "onnxruntime-web": (
        "onnxruntime-web",
        ("dist/ort.wasm.min.mjs", "dist/ort-wasm-simd-threaded.mjs", "dist/ort-wasm-simd-threaded.wasm"),
    ),
}


def fetched(page):
    """A folder with the files of the packages, in the versions of the page's lock file.

    Args:
        page: folder with package.json and package-lock.json.

    Raises:
        ValueError: they aren't there from before, and npm is missing or can't fetch them.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "dualvqa")
    kept = cache / f"web-{file_hash(Path(page, LOCK))[:16]}"
    if kept.is_dir():
        return kept
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        install(page, Path(folder))
        ready = Path(folder, "ready")
        for name, (package, files) in FILES.items():
            (ready / name).mkdir(parents=True)
            for file in files:
                shutil.copy(Path(folder, "node_modules", package, file), ready / name)
        try:
            ready.rename(kept)  # whole or not at all
        except OSError:
            if not kept.is_dir():  # another export was quicker
                raise
    return kept


def install(page, folder):
    """Has npm put the packages into a folder, each with the content that the lock file names.

    Raises:
        ValueError: npm is missing, or failed.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(
            "npm fetches the two packages that the web page is made with (onnxruntime-web, @huggingface/tokenizers), "
            "and there is none: install Node.js, https://nodejs.org, and export again. It is needed only once"
        )
    for name in ("package.json", LOCK):
        shutil.copy(Path(page, name), folder)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(
            f"npm could not fetch the web page's packages: is there a network? It said: {done.stderr.strip()[-500:]}"
        )

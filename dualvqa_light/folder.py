"""What `dualvqa export` wrote: its manifest `onnx.json`, and the files that it names."""

import hashlib
import json
import os
from pathlib import Path

FORMAT = 2  # another number where older files can't be read
MANIFEST = "onnx.json"
# onnxruntime's fusion of an addition with the layer norm behind it takes eight times as long on CPUs as the two.
SLOWER = ["SkipLayerNormFusion"]


def read_manifest(folder):
    """
    Raises:
        ValueError: there is none, or it is of another format.
    """
    path = Path(folder, MANIFEST)
    if not path.is_file():
        raise ValueError(f"{folder} has no {MANIFEST}: expected a folder that `dualvqa export` wrote")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found, files = manifest["format"], manifest["files"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); export the model again") from error
    if found != FORMAT:
        raise ValueError(
            f"{folder} has ONNX files of format {found}, this version reads format {FORMAT}; export the model again "
            f"with this version"
        )
    if not isinstance(files, dict):
        raise ValueError(f"{path} is damaged (files is a {type(files).__name__}); export the model again")
    return manifest


def checked_files(folder):
    """The names of the files of an exported model, each with the content that it was written with.

    Raises:
        ValueError: see `read_manifest`; or a file is missing, lies elsewhere, or has another content.
    """
    files = read_manifest(folder)["files"]
    if not any(name.endswith(".onnx") for name in files):
        raise ValueError(f"{Path(folder, MANIFEST)} is damaged: it names no ONNX file; export the model again")
    for name, digest in files.items():
        path = os.path.join(folder, name)
        if os.path.basename(name) != name:
            raise ValueError(
                f"{Path(folder, MANIFEST)} is damaged: {name!r} is no file of the folder itself; export the model again"
            )
        if not os.path.isfile(path):
            raise ValueError(f"{path} is missing; export the model again")
        if file_hash(path) != digest:
            raise ValueError(
                f"{path} is not the file that was exported: its SHA-256 differs from that in {MANIFEST}. It was "
                f"damaged or replaced; copy the folder again, or export the model again"
            )
    return list(files)


def file_hash(path):
    """The SHA-256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def import_onnxruntime():
    """onnxruntime, which then reports to nobody: left alone, from version 1.32 on it keeps a database of events in the
    home folder and sends them to its makers, on Linux too. Where ORT_DISABLE_TELEMETRY is set already, that holds.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"ONNX files need onnxruntime: pip install onnxruntime ({error})") from error
    return onnxruntime


def open_sessions(folder, providers=("CPUExecutionProvider",), threads=None):
    """Part -> `onnxruntime.InferenceSession`, of every ONNX file of an exported folder.

    Args:
        providers: onnxruntime's, in order of preference.
        threads: how many a computation takes; onnxruntime chooses when left out.

    Raises:
        ValueError: see `checked_files`.
        ImportError: onnxruntime is not installed.
    """
    names = [name for name in checked_files(folder) if name.endswith(".onnx")]
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    # Each part has threads of its own, which would wait for work in a busy loop while the next part computes.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    sessions = {}
    for name in names:
        path = os.path.join(folder, name)
        try:
            session = onnxruntime.InferenceSession(path, options, providers=list(providers), disabled_optimizers=SLOWER)
        except Exception as error:  # onnxruntime's errors have no base class of their own
            raise ValueError(f"onnxruntime can't open {path}: {error}; export the model again") from error
        sessions[name.removesuffix(".onnx")] = session
    return sessions

"""The folder of a run: it can be written into, one run at a time does, and a model in it is whole or not replaced."""

import contextlib
import fnmatch
import os
import shutil
import socket
import tempfile

from filelock import FileLock, Timeout

LOCK_NAME = "_run.lock"
ASIDE_NAME = "_saving"
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
# Seconds. The workers of a run that was killed go within five of them, and hold its lock until then.
PATIENCE = 10


@contextlib.contextmanager
def claimed(folder):
    """Holds a folder for one run, which may claim it again. If it isn't there it is made; if it stays empty it goes.

    Raises:
        ValueError: it can't be written into, or another process holds it.
    """
    made = not os.path.isdir(folder)
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(4096))
    except OSError as error:
        raise ValueError(
            f"the output folder {folder} can't be written into: {error.strerror or error}. Give another --output_dir"
        ) from error
    lock = FileLock(os.path.join(os.path.realpath(folder), LOCK_NAME), timeout=PATIENCE, is_singleton=True)
    try:
        lock.acquire()
        with open(lock.lock_file, "w", encoding="utf-8") as file:
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
    except Timeout:
        with open(lock.lock_file, encoding="utf-8") as file:
            holder = file.read()
        raise ValueError(
            f"another run is at work in {folder}, {holder or 'another process'}: wait until it has ended, or give "
            f"another --output_dir"
        ) from None
    except OSError as error:
        raise ValueError(
            f"the lock of the output folder, {lock.lock_file}, can't be taken: {error.strerror or error}. Remove it, "
            f"or give another --output_dir"
        ) from error
    try:
        yield
    finally:
        if lock.lock_counter == 1:  # the outermost claim; who waits for the lock sees that its file is another now
            with contextlib.suppress(OSError):
                os.remove(lock.lock_file)
        lock.release()
        if made:
            with contextlib.suppress(OSError):
                os.rmdir(folder)


@contextlib.contextmanager
def written_whole(folder):
    """A place to write a model into whose files take the place of those in `folder` once all of them are there.

    Where writing fails, as on a full disk, the model that was in the folder is still there. Weights of another number
    of files go with those they belonged to.
    """
    aside = os.path.join(folder, ASIDE_NAME)
    shutil.rmtree(aside, ignore_errors=True)
    os.makedirs(aside)
    try:
        if os.path.isfile(os.path.join(folder, "README.md")):  # a card that a person has written stays
            shutil.copy(os.path.join(folder, "README.md"), aside)
        yield aside
        new = [
            os.path.relpath(os.path.join(place, name), aside) for place, _, names in os.walk(aside) for name in names
        ]
        if any(is_weights(name) for name in new):
            for name in filter(is_weights, set(os.listdir(folder)).difference(new)):
                os.remove(os.path.join(folder, name))
        for name in sorted(new, key=is_weights):
            os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
            os.replace(os.path.join(aside, name), os.path.join(folder, name))
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def is_weights(name):
    return any(fnmatch.fnmatch(name, pattern) for pattern in WEIGHTS)

"""What goes wrong in a run, told in a line: where it happened, what is kept, and what to do."""

import contextlib
import logging
import signal
import sys

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def plain_errors():
    """What the user can mend is told in a line, without a traceback; so is that the user stopped it."""
    try:
        yield
    except (ValueError, ImportError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    except KeyboardInterrupt as error:
        message = str(error.args[0]) if error.args else "interrupted"
        if message:  # of several processes one says it
            print(f"\n{message}", file=sys.stderr)
        raise SystemExit(128 + getattr(error, "signal", signal.SIGINT)) from error


class Terminated(KeyboardInterrupt):
    """SIGTERM, where it isn't a training that it stops."""

    signal = signal.SIGTERM


def raise_terminated(number, frame):
    """A handler of SIGTERM, so that what is half written is cleared away."""
    raise Terminated("terminated")


@contextlib.contextmanager
def named(path):
    """What a full disk refuses is told with the file's name, which the system's error lacks."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{error.filename or path} could not be written: {error.strerror or error}") from error


@contextlib.contextmanager
def model_is_kept(folder):
    """What goes wrong once the model is saved doesn't take it away, and the user is told so."""
    try:
        yield
    except (OSError, ValueError) as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(
            f"{error}. The trained model is in {folder}: what is missing can be had from it with --model_name_or_path"
        ) from error


@contextlib.contextmanager
def only_warned(what):
    """Whatever goes wrong in what comes after the run's own results doesn't take them away."""
    try:
        yield
    except Exception as error:
        logger.warning("%s: %s: %s. All other results of the run are kept", what, type(error).__name__, error)
        logger.debug("where it happened", exc_info=True)

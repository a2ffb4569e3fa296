"""What goes wrong after something was reached: where it happened, what is kept, and what to do."""

import contextlib
import logging

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def named(path):
    """The error of a full disk names the file, which the system's own error lacks."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{error.filename or path} could not be written: {error.strerror or error}") from error


@contextlib.contextmanager
def model_is_kept(folder, further="from it with --model_name_or_path"):
    """An error after the model is saved says that the model is kept, and how what is missing can be had."""
    try:
        yield
    except (OSError, ValueError) as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"{error}. The trained model is in {folder}: what is missing can be had {further}") from error


@contextlib.contextmanager
def only_warned(what):
    """Whatever goes wrong in what comes after the run's own results doesn't take them away."""
    try:
        yield
    except Exception as error:
        logger.warning("%s: %s: %s. All other results of the run are kept", what, type(error).__name__, error)
        logger.debug("where it happened", exc_info=True)

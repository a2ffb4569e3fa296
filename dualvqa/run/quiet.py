"""What a run shows of other libraries: what a user can do something about, and no bar that cuts its own."""

import contextlib
import logging
import sys
import warnings

import datasets
from tqdm.contrib.logging import logging_redirect_tqdm
from transformers.utils import logging as transformers_logging


@contextlib.contextmanager
def quiet():
    """Shows the run's own log, lines above bars, and none of what is not for the user."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    for name in ("httpx", "datasets", "filelock"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Of images whose EXIF block is malformed: they are read all the same, and it names no file.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")
    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()  # of weights that are read and written in a second
    console = [logger for logger in (logging.root, logging.getLogger("transformers")) if writes_to_console(logger)]
    with logging_redirect_tqdm(console):
        yield


def writes_to_console(logger):
    return any(getattr(handler, "stream", None) in (sys.stdout, sys.stderr) for handler in logger.handlers)

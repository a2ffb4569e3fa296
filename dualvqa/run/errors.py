"""What goes wrong in a run, in a line."""

import contextlib
import os
import signal
import sys
import warnings


@contextlib.contextmanager
def plain_errors():
    """An error that the user can mend, and an interruption, are one line without a traceback; a warning is its text."""
    before, warnings.formatwarning = warnings.formatwarning, text_of_warning
    try:
        yield
    except BrokenPipeError as error:  # what this is piped into, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from error
    except (ValueError, ImportError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    except KeyboardInterrupt as error:
        message = str(error.args[0]) if error.args else "interrupted"
        if message:  # of several processes one says it
            print(f"\n{message}", file=sys.stderr)
        raise SystemExit(128 + getattr(error, "signal", signal.SIGINT)) from error
    finally:
        warnings.formatwarning = before


def text_of_warning(message, *_, **__):
    """What a warning says, as the log has it: the line of code that gave it is nothing a user can mend."""
    return f"{message}\n"


class Terminated(KeyboardInterrupt):
    """SIGTERM, where it isn't a training that it stops."""

    signal = signal.SIGTERM


def raise_terminated(number, frame):
    """A handler of SIGTERM, so that what is half written is cleared away."""
    raise Terminated("terminated")


def leave(number, frame):
    os.write(2, b"\ninterrupted\n")  # print() may not be used in here
    os._exit(128 + number)


@contextlib.contextmanager
def leaving_at_once():
    """While large libraries are imported a signal ends the process: they make errors of their own of an interrupt."""
    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

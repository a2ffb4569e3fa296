"""The start of a run: its arguments are checked, or its help shown, before anything large is imported."""

import signal
import sys

from .errors import leaving_at_once, plain_errors, raise_terminated
from .flags import check_flags
from .help import help_page

HELP = {"-h": False, "--help": False, "--help-all": True, "--help_all": True}
USAGE = "[RECIPE] [--flag value ...]"
ABOUT = "Trains, evaluates and asks a DualVQA model."


def start(argv=None, program="run_vqa.py", about=ABOUT, usage=USAGE, shown=None):
    """One run, from a recipe and flags.

    Args:
        argv: those of the command line when left out.
        program, about, usage, shown: for the help, see `help_page`.
    """
    argv = sys.argv[1:] if argv is None else argv
    asked = [HELP[argument] for argument in argv if argument in HELP]
    if asked:
        print(help_page(f"{program} {usage}", about, any(asked), shown))
        return
    before = signal.signal(signal.SIGTERM, raise_terminated)
    try:
        with plain_errors():
            check_flags(argv)
            with leaving_at_once():
                from .main import main, stop_processes
            main(argv)
            stop_processes()
    finally:
        signal.signal(signal.SIGTERM, before)

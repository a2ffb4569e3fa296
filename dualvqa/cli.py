"""The console command `dualvqa`: reads and checks its arguments before anything large is imported."""

import sys

from dualvqa.run.errors import plain_errors


def train(argv=None, program="run_vqa.py"):
    """One run, from a recipe and flags."""
    argv = sys.argv[1:] if argv is None else argv
    with plain_errors():
        run(argv, program, "Trains, evaluates and asks a DualVQA model.")


def run(argv, program, about):
    from dualvqa.run.flags import check_flags

    if {"-h", "--help", "--help-all", "--help_all"} & set(argv):
        from dualvqa.run.help import help_page

        print(help_page(program, about, everything=not {"-h", "--help"} & set(argv)))
        return
    check_flags(argv)
    from dualvqa.run.main import main, stop_processes

    main(argv)
    stop_processes()

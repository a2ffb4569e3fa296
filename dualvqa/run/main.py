"""One run, from its settings to its push: the table of contents."""

import contextlib
import sys

from accelerate import PartialState

from processing.wording import command_line

from .arguments import parse_arguments
from .calibrate import calibrate
from .check import check_settings
from .data import read_data
from .errors import plain_errors
from .evaluate import evaluate
from .flags import check_flags
from .model import build, load
from .predict import predict
from .preset import take_preset
from .quiet import quiet
from .refit import refit
from .report import report
from .state import Run
from .train import prepare_trainer, train

STAGES = (
    check_settings,
    load,
    read_data,
    take_preset,
    build,
    prepare_trainer,
    train,
    evaluate,
    calibrate,
    refit,
    predict,
    report,
)


def main(argv=None):
    """Runs what the command line asks for, without `argv` that of this process; gives the [`Run`]."""
    with plain_errors(), command_line(), quiet(), contextlib.ExitStack() as held:
        argv = sys.argv[1:] if argv is None else argv
        check_flags(argv)
        run = Run(parse_arguments(argv), held)
        for stage in STAGES:
            stage(run)
        if run.settings.training.push_to_hub:
            run.trainer.push_to_hub()
        return run


def stop_processes():
    """Ends the group of processes that `accelerate launch` started, if there is one: torch warns where nobody does."""
    PartialState().destroy_process_group()

"""The calibration of a run's model: whether it is wanted and possible, and doing it."""

import logging

from dualvqa.trust.calibrating import reason_against
from processing import StreamedRows

from .terminal import show_figures

logger = logging.getLogger(__name__)


def wants_calibration(run):
    """Whether this run calibrates.

    Raises:
        ValueError: it is asked for and can't be done.
    """
    args, data, training = run.settings
    if args.calibrate == "false" or not (training.do_train or args.asks_for_calibration):
        return False
    reason = reason_against(run.parts, run.processor, run.model.config.heads)
    if data.pretrain:
        reason = "--pretrain trains no heads"
    train = run.parts.get("train")
    if reason is None and args.fit_familiarity and (train is None or isinstance(train, StreamedRows)):
        found = "none" if train is None else "a stream"
        reason = f"--fit_familiarity needs a training part that isn't streamed, found {found}; give --train_file"
    if reason and args.asks_for_calibration:
        raise ValueError(
            f"the scores can't be calibrated: {reason}. Leave out --max_risk, --calibrate true and --fit_familiarity, "
            f"or give more questions with --validation_file"
        )
    if reason:
        logger.info("scores stay as the model gives them: %s", reason)
    return reason is None


def calibrate(run):
    """Calibrates the model on the validation part, if this run does."""
    if run.calibrating:
        args = run.settings.model
        figures = run.trainer.calibrate(args.max_risk, args.risk_confidence, args.fit_familiarity)
        if run.trainer.is_world_process_zero():
            show_figures("calibration", figures)

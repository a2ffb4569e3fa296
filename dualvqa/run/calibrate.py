"""The calibration of a run's model: whether it is wanted and possible, and doing it."""

import logging

from dualvqa.trust.calibrating import check_possible, reason_against
from dualvqa.trust.promises import check_groups

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
    heads, parts = run.model.config.heads, run.parts
    if training.cross_fit and training.do_train:  # every training question is held out of a fold's model
        parts = {**parts, "validation": parts["train"]}
    if args.asks_for_calibration:
        if "validation" in parts:
            check_groups(parts["validation"], args.promise_by)
        check_possible(parts, run.processor, heads, args.fit_familiarity)
        return True
    reason = "--pretrain trains no heads" if data.pretrain else reason_against(parts, run.processor, heads)
    if reason:
        logger.info("scores stay as the model gives them: %s", reason)
    return reason is None


def calibrate(run):
    """Calibrates the model on the validation part, if this run does."""
    if run.calibrating:
        args = run.settings.model
        names = ("max_risk", "risk_confidence", "fit_familiarity", "risk_of", "promise_by")
        figures = run.trainer.calibrate(**{name: getattr(args, name) for name in names})
        if run.trainer.is_world_process_zero():
            show_figures("calibration", figures)

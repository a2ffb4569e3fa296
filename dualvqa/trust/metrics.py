"""How true a calibrated processor's scores are, as figures of an evaluation."""

from processing.promises_dualvqa import Promises

from .abstention import selective
from .calibration import LabelledLogits, before_and_after
from .promises import Judged


def score_figures(processor, outputs, references, groups=None):
    """Figures that `AnswerMetrics(..., further=score_figures)` has besides; none of a processor without calibration.

    `calibration_*` are the errors of `LabelledLogits.errors` without and with the processor's temperatures. Where it
    has a threshold, `abstention_coverage` is the share of questions answered, and `abstention_risk` the share of wrong
    answers among these.

    Args:
        processor: the model's.
        outputs: `<head>_logits` -> (n, N).
        references: for each question the answers that people gave.
        groups: of each question, for a threshold of each value of a column; without them its figures are left out.
    """
    calibration = processor.calibration or {}
    if not calibration:
        return {}
    labelled = LabelledLogits(processor, outputs, references)
    calibrated = labelled.ranked(calibration.get("temperatures", {}))
    errors = before_and_after(labelled.errors(labelled.ranked({})), labelled.errors(calibrated))
    figures = {f"calibration_{name}": value for name, value in errors.items()}
    promise = calibration.get("abstention")
    if promise and (promise.get("by", "head") == "head" or groups is not None):
        judged = Judged(labelled, calibration.get("temperatures", {}))
        promises = Promises(calibration, group=groups)
        lowest = list(map(promises.threshold, judged.heads, promises.groups(len(judged.heads))))
        figures["abstention_coverage"], risk = selective(judged.scores, judged.correct, lowest)
        if risk is not None:
            figures["abstention_risk"] = risk
    return figures

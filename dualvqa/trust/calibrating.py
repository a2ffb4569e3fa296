"""Calibration of a trained model: temperatures, a threshold to abstain below, familiarity."""

import logging

from processing import QUESTION_TYPES, AnswerVocabulary, StreamedRows, named_logits

from .calibration import LabelledLogits, answer_names, answer_problems, before_and_after
from .familiarity_fitting import fit_familiarity
from .predicting import predict
from .promises import Judged, groups_of, make_promises

logger = logging.getLogger(__name__)


def check_possible(parts, processor, heads, fit_familiarity=False):
    """Refuses a calibration that there are no data for.

    Args:
        parts: name -> canonical rows.
        heads: the model's.
        fit_familiarity: see [`CalibrationArguments`].

    Raises:
        ValueError: as said.
    """
    reason = reason_against(parts, processor, heads)
    train = parts.get("train")
    if reason is None and fit_familiarity and (train is None or isinstance(train, StreamedRows)):
        found = "none" if train is None else "a stream"
        reason = f"--fit_familiarity needs a training part that isn't streamed, found {found}; give --train_file"
    if reason:
        raise ValueError(
            f"the scores can't be calibrated: {reason}. Give more questions with --validation_file, in Python as "
            f"eval_dataset; a training does without where it is not told to: by --max_risk, --promise_by, --calibrate "
            f"true or --fit_familiarity"
        )


def reason_against(parts, processor, heads):
    """Why there is nothing to calibrate on, or None."""
    if "validation" not in parts or "answer" not in parts["validation"].column_names:
        return "there is no validation part with answers; give --validation_file, or a --validation_fraction above 0"
    rows = parts["validation"]
    vocabulary = AnswerVocabulary.of(processor, memory=True)
    labels = vocabulary.labels([vocabulary.rules.consensus(answer) for answer in rows["answer"][:]])
    labels = {name.removesuffix("_labels"): values for name, values in labels.items()}
    heads = [*heads, "question_type"] if len(heads) == 2 else list(heads)
    problems = answer_problems(heads, labels, rows["image_key"][:], answer_names(processor))
    if set(QUESTION_TYPES) & set(heads) <= set(problems):
        return f"the validation part is too small: {in_words(problems)}"


def in_words(problems):
    """{"binary": "..."} -> "yes/no head: ..."."""
    names = {"binary": "yes/no head", "open_ended": "open-ended head", "question_type": "router"}
    return "; ".join(f"{names.get(name, name)}: {problem}" for name, problem in problems.items())


def calibrate(trainer, parts, args):
    """Calibrates a trained model on the validation part, and leaves what was found in its processor and weights.

    It warns about what can't be found, and keeps the rest.

    Args:
        trainer: a [`DualVQATrainer`] whose processing class is the model's processor.
        parts: the canonical datasets.
        args: the [`CalibrationArguments`].

    Returns:
        The figures, their names starting with `calibration_`: `rows` and `images`; each head's `temperature`;
        errors as in `LabelledLogits.errors`, `before` with temperatures 1 and `after` with temperatures fitted on
        other images of the part (those kept are fitted on all of it); the `threshold`, the `coverage` at it and the
        promised `max_risk`; the `largest_coverage` of a set of answers; and each limit of familiarity. Thresholds,
        coverages and largest coverages of groups begin with the group's name.
    """
    model, processor = trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
    limits = (processor.calibration or {}).get("familiarity") if model.config.familiarity else None
    processor.calibration = None
    if args.fit_familiarity:  # without it the limits of an earlier fit stay: the states are the same
        limits = fit_familiarity(trainer, parts["train"], parts["validation"])
    rows = parts["validation"]
    outputs = named_logits(predict(trainer, rows), processor)
    processor.calibration, figures = calibration_of(processor, outputs, rows, args)
    if limits:
        processor.calibration["familiarity"] = limits
        figures |= {f"{name}_limit": limit for name, limit in limits.items()}
    return {f"calibration_{name}": value for name, value in figures.items()}


def calibration_of(processor, outputs, rows, args):
    """What the model's outputs for the validation part tell, as `DualVQAProcessor.calibration` keeps it, and figures.

    Args:
        processor: the model's, without a calibration.
        outputs: `<head>_logits` -> (n, N).
        rows: with `answer` and `image_key`.
        args: the [`CalibrationArguments`].
    """
    labelled = LabelledLogits(processor, outputs, rows["answer"][:], rows["image_key"][:])
    problems = labelled.problems()
    for head, problem in problems.items():
        logger.warning("%s; it keeps temperature 1", in_words({head: problem}))
    heads = [head for head in labelled.heads if head not in problems]
    temperatures = labelled.temperatures(heads)
    calibration = {"temperatures": temperatures}
    figures = {"rows": len(labelled.references), "images": len(set(rows["image_key"][:]))}
    figures |= {f"{head}_temperature": temperature for head, temperature in temperatures.items()}
    after = labelled.cross_fitted(heads) if heads else labelled.ranked({})
    figures |= before_and_after(labelled.errors(labelled.ranked({})), labelled.errors(after))
    before, now = (figures.get(f"routed_ece_{when}", 0.0) for when in ("before", "after"))
    if now > before:
        logger.warning(
            "the temperatures may do more harm than good: without them the scores of the validation questions are off "
            "by %.1f %% on average, and by %.1f %% with temperatures that were fitted on other images of the part. "
            "They are kept all the same; calibrate anew with more validation questions, none of which was trained on",
            100 * before,
            100 * now,
        )
    judged = Judged(labelled, temperatures)
    promised, found = make_promises(judged, args, groups_of(judged, rows, args.promise_by))
    calibration |= promised
    figures |= found
    return calibration, figures

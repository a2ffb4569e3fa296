"""Calibration of a trained model: temperatures, a threshold to abstain below, familiarity."""

import dataclasses
import logging

import torch

from modeling_dualvqa import DualVQAOutput
from processing import QUESTION_TYPES, AnswerVocabulary, StreamedRows, named_logits

from .calibration import LabelledLogits, answer_names, answer_problems, before_and_after
from .familiarity import MOST_STATES, fit_gaussian, fit_limits
from .promises import Judged, groups_of, make_promises

logger = logging.getLogger(__name__)

SCORES = {  # of `processor.novelty`, for messages
    "distance": "its distance from the training questions",
    "binary_energy": "the energy of the yes/no head",
    "open_ended_energy": "the energy of the open-ended head",
}


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
            f"the scores can't be calibrated: {reason}. Leave out --max_risk, --calibrate true and --fit_familiarity, "
            f"or give more questions with --validation_file, in Python as eval_dataset"
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
    processor.calibration = None
    if args.fit_familiarity:
        fit_familiarity(trainer, model, parts["train"])
    rows = parts["validation"]
    outputs = named_logits(predict(trainer, rows), processor)
    processor.calibration, figures = calibration_of(processor, outputs, rows, args)
    return {f"calibration_{name}": value for name, value in figures.items()}


def calibration_of(processor, outputs, rows, args):
    """What the model's outputs for the validation part tell, as `DualVQAProcessor.calibration` keeps it, and figures.

    Args:
        processor: the model's, without a calibration.
        outputs: `<head>_logits` -> (n, N), and `novelty` (n,) where the model has it.
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
    if "novelty" in outputs:
        limits, problems = fit_limits(processor, outputs)
        for name, problem in problems.items():
            logger.warning("no question is flagged as unfamiliar by %s: %s", SCORES.get(name, name), problem)
        if limits:
            calibration["familiarity"] = limits
            figures |= {f"{name}_limit": limit for name, limit in limits.items()}
    return calibration, figures


def fit_familiarity(trainer, model, rows):
    """Fits the model's Gaussian of training states on up to `MOST_STATES` questions, the same ones every time."""
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        logger.warning(
            "familiarity isn't fitted to a model that is spread over processes; calibrate the saved folder in one "
            "process: --model_name_or_path FOLDER --fit_familiarity"
        )
        return
    if len(rows) > MOST_STATES:
        rows = rows.select(torch.linspace(0, len(rows) - 1, MOST_STATES).long().tolist())
    if "answer" in rows.column_names:
        rows = rows.remove_columns("answer")  # without labels the Trainer computes no loss of what it is given
    others = [field.name for field in dataclasses.fields(DualVQAOutput) if field.name != "fused_state"]
    states = predict(trainer, rows, ignore_keys=others)
    try:
        model.set_familiarity(*fit_gaussian(states))
    except ValueError as error:
        model.forget_familiarity()
        logger.warning("no question will be flagged as unfamiliar: %s", error)


def predict(trainer, rows, ignore_keys=None):
    """The Trainer's arrays for all rows, in their order, without the metrics, which are those of another part."""
    metrics, trainer.compute_metrics = trainer.compute_metrics, None
    try:
        return trainer.predict(rows, ignore_keys=ignore_keys, metric_key_prefix="calibration").predictions
    finally:
        trainer.compute_metrics = metrics

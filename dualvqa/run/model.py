"""The model of a run: a new one, a saved one, or several that answer together."""

import dataclasses
import logging

from dualvqa.deployment.ensemble import calibration_of, load_ensemble
from dualvqa.deployment.optimize import optimize_for_inference
from dualvqa.training.building import (
    NewModelArguments,
    build_new,
    load_model,
    start_from_shares,
    training_answers,
)
from dualvqa.training.new_model_checks import check_new_model
from processing import BINARY_ANSWERS, AnswerRules, summary_of

from .flags import config_fields

logger = logging.getLogger(__name__)


def load(run):
    """Loads what is saved, or makes sure that the new model can be built, before the data are read.

    Raises:
        ValueError, OSError: see `load_model`, `load_ensemble` and `check_new_model`.
    """
    args = run.settings.model
    if not args.model_name_or_path:
        check_new_model(args, config_fields(args.config))
        return
    run.model, run.processor = load_model(args.model_name_or_path)
    if args.ensemble_with:
        run.together = load_ensemble([args.model_name_or_path, *args.ensemble_with], args.ensemble_average)
    warn_of_settings_of_new_models(args)


def build(run):
    """Builds the new model, or gives the loaded one what was asked for: new answers, its ensemble, int8 weights."""
    args, data, training = run.settings
    if run.model is None:
        summary = summary_of(run.parts["train"], data.rules)
        fields = config_fields(args.config)
        if run.preset:
            args, fields = run.preset.new_model_arguments(args), run.preset.model_fields(fields)
        run.model, run.processor = build_new(args, fields, data, summary)
        run.model.start.preset = run.preset
    elif not training.do_train and (run.model.config.model_card or {}).get("pretraining"):
        logger.warning("%s is only pre-trained: its answers mean nothing yet", args.model_name_or_path)
    if args.new_answers:
        renew_answers(run.model, run.processor, data, summary_of(run.parts["train"], data.rules))
    if run.together:
        run.model, run.processor = run.together[0], run.processor.without_calibration()
        run.processor.calibration = calibration_of(run.model.limits)
    if args.quantization:
        run.model = optimize_for_inference(run.model, args.quantization)


def warn_of_settings_of_new_models(args):
    """Logs which settings mean nothing to a saved model, which has its own."""
    fields = [field for field in dataclasses.fields(NewModelArguments) if field.name != "single_head"]
    fields += [field for field in dataclasses.fields(args) if field.name == "config"]
    given = [f"--{field.name}" for field in fields if getattr(args, field.name) != unset(field)]
    if given:
        logger.warning("the saved model keeps its own towers, sizes and tokenizer: %s have no effect", ", ".join(given))


def unset(field):
    """The value of a field that wasn't given."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def renew_answers(model, processor, data_args, summary):
    """Gives a loaded model the vocabulary of another data set, and a new open-ended head for it."""
    forms = map(AnswerRules.of(processor).form, processor.answers)  # two may be one by the new data's rules
    with_binary = "binary" not in model.config.heads and not set(BINARY_ANSWERS).isdisjoint(forms)
    processor.answers, processor.memory_answers = training_answers(data_args, summary, with_binary), []
    model.reset_open_ended_head(len(processor.answers))
    if data_args.target == "soft":
        start_from_shares(model, summary.counts_of(processor.answers, "soft"))

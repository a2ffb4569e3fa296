"""What a run needs for its report: settings of the model that sees no image, and what it says of itself."""

import copy
import logging
import os

logger = logging.getLogger(__name__)


def blind_arguments(training_args):
    """The same settings for the model that sees no image; only its place is another, and it stays there."""
    args = copy.copy(training_args)
    args.output_dir = os.path.join(training_args.output_dir, "blind")
    args.push_to_hub, args.report_to = False, []
    return args


def describe_run(model, model_args, training_args):
    """What a report says of its run; of a model that is only evaluated, how it was trained."""
    card = model.config.model_card or {}
    about = {"title": os.path.basename(os.path.normpath(training_args.output_dir))}
    if training_args.do_train:
        return {**about, "data": card["data"], "settings": card["settings"]}
    name = os.path.basename(os.path.normpath(model_args.model_name_or_path))
    return {**about, "settings": [["model", name], *card.get("settings", [])]}

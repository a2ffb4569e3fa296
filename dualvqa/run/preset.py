"""The preset of a run without a recipe: settings for what is not given, chosen from the training part."""

from dualvqa.training.building import facts_of
from dualvqa.training.presets import load_preset, log_preset
from processing import summary_of


def take_preset(run):
    """Fills in the arguments of training, and leaves the preset for the model that is built next.

    A recipe is a choice already, as is a saved model; a preset that is asked for by name goes with a recipe too.

    Raises:
        ValueError: the preset's settings and those given don't go together.
    """
    args, data, training = run.settings
    if not training.do_train or args.model_name_or_path or data.pretrain or (args.has_recipe and args.preset == "auto"):
        return
    run.preset = load_preset(facts_of(args, summary_of(run.parts["train"], data.rules), data.streaming), args.preset)
    if run.preset:
        log_preset(run.preset)
        run.settings = run.settings._replace(training=run.preset.training_arguments(training, args.given))

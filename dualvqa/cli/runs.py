"""The commands that are a run: train, and evaluate, predict and calibrate of a saved model."""

import os

from dualvqa.run.start import HELP, start

from .folders import check_folder

# What a recipe says of training means nothing where a saved model is only used.
NO_TRAINING = "--do_train false --do_eval false --do_predict false --report_blind false --new_answers false"
NO_TRAINING = f"{NO_TRAINING} --single_head false --push_to_hub false --refit false --memory false --teacher".split()
# The flags that --help shows, of all of these commands and of each.
SHOWN = """output_dir per_device_eval_batch_size use_cpu dataloader_num_workers dataset_name dataset_config_name
data_dir train_file validation_file test_file csv_separator csv_encoding excel_sheet image_dir image_dir_only
max_image_megapixels image_column question_column answer_column boolean_answers yes_answers no_answers answer_language
metric exclude_rows on_bad_example validation_fraction split_by question_group_column split_seed folds fold""".split()
TOGETHER = "ensemble_with ensemble_average quantization".split()
OF_COMMAND = {
    "evaluate": [*TOGETHER, "report", "report_columns"],
    "predict": [*TOGETHER, "top_k"],
    "calibrate": ["max_risk", "risk_of", "risk_confidence", "promise_by", "fit_familiarity"],
}


def train(argv):
    """`dualvqa train [RECIPE] [--flag value ...]`"""
    recipe, flags = split(argv)
    about = "Trains a model; evaluates, predicts, calibrates and reports as the flags say."
    start([*recipe, "--do_train", *flags], "dualvqa train", about)


def evaluate(argv):
    """`dualvqa evaluate FOLDER [RECIPE] [--flag value ...]`"""
    about = "Measures a saved model on a validation or test part, and writes a report into FOLDER/evaluation."
    use(argv, ["--do_eval"], "evaluate", "evaluation", about)


def predict(argv):
    """`dualvqa predict FOLDER [RECIPE] [--flag value ...]`"""
    about = "Answers the questions of a test part: predictions.jsonl in FOLDER/prediction."
    use(argv, ["--do_predict"], "predict", "prediction", about)


def calibrate(argv):
    """`dualvqa calibrate FOLDER [RECIPE] [--flag value ...]`"""
    about = "Fits a saved model's scores to a validation part, and keeps what it finds in FOLDER."
    use(argv, ["--calibrate", "true"], "calibrate", "", about)


def use(argv, action, name, place, about):
    """Runs one action of a saved model.

    Args:
        argv: folder, recipe where there is one, flags.
        action: the flags that ask for it.
        name: of the command.
        place: folder within the model's that results are written into.
        about: for the help.
    """
    program, usage = f"dualvqa {name}", "FOLDER [RECIPE] [--flag value ...]"
    if HELP.keys() & set(argv):
        return start(argv, program, about, usage, [*SHOWN, *OF_COMMAND[name]])
    if not argv or argv[0].startswith("-"):
        raise ValueError(f"expected a saved model first: {program} {usage}")
    folder = check_folder(argv[0])
    recipe, flags = split(argv[1:])
    home = folder if os.path.isdir(folder) else os.path.join("runs", os.path.basename(folder))
    given = ["--model_name_or_path", folder, "--output_dir", os.path.join(home, place).rstrip(os.sep)]
    return start([*recipe, *NO_TRAINING, *action, *given, *flags], program, about, usage)


def split(argv):
    """The recipe, as a list of none or one, and the flags."""
    number = bool(argv) and not argv[0].startswith("-")
    return argv[:number], argv[number:]

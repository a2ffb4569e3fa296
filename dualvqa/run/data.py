"""The data of a run: read, checked, split."""

import logging

from dualvqa.reporting.figures import choose_columns
from dualvqa.training.data_checks import list_bad_rows, listing_bad_rows
from dualvqa.training.record import remembered_columns
from processing import open_training_rows, prepare_datasets
from processing.yes_no import settle_rules

logger = logging.getLogger(__name__)

REPORTED = ("validation", "test")


def read_data(run):
    """Reads all parts, or opens the stream of the training part.

    Raises:
        ValueError: see `prepare_datasets` and `settle_rules`; a part that what is asked for needs isn't there.
    """
    model, data, training = run.settings
    reports = training.do_eval and model.report  # on the answers that training questions alone would give, too
    data.remembered_columns = remembered_columns(run.model)
    if training.cross_fit:
        if data.folds:
            raise ValueError(
                "--cross_fit cuts folds of its own and trains on all of them: leave out --folds and --fold"
            )
        data.validation_fraction = 0.0
    if run.processor is not None:
        settle_rules(data, processor=run.processor, renewed=model.new_answers)
    scores_test = training.do_eval and not training.do_predict
    with listing_bad_rows(training.output_dir):
        parts, run.raw, bad = prepare_datasets(data, training.do_train or model.fit_familiarity, reports, scores_test)
    run.parts = dict(parts)
    if data.streaming and training.do_train:
        run.parts["train"] = open_training_rows(data, training)
    elif "train" in run.parts and data.reads_answers:
        settle_rules(data, run.parts["train"]["answer"][:])
    check_parts(training, run.parts)
    warn_of_refit(run)
    leave_out_columns(run)
    reported = {name: run.parts[name] for name in REPORTED if name in run.parts}
    choose_columns({n: rows for n, rows in reported.items() if "answer" in rows.column_names}, training.report_columns)
    if bad:
        list_bad_rows(bad, training.output_dir)


def warn_of_refit(run):
    """Warns where a saved model was trained on the validation part that is cut off the training part here."""
    refitted = run.model is not None and (run.model.config.model_card or {}).get("refit")
    cut = "validation" in run.parts and run.raw.get("validation") is run.raw.get("train")
    if refitted and cut and not run.settings.training.do_train:
        logger.warning(
            "%s was refitted on all questions, those of the validation part among them, which is cut off the training "
            "part here: its figures there are not those of new questions. Give others with --validation_file",
            run.settings.model.model_name_or_path,
        )


def leave_out_columns(run):
    """Leaves out the columns that a recipe names and the data lack, with a warning each."""
    for setting, parts in (("auxiliary_columns", ("train",)), ("report_columns", REPORTED)):
        asked = getattr(run.settings.training, setting)
        found = [getattr(run.parts[part], "column_names", None) for part in parts if part in run.parts]
        columns = {column for names in found for column in names or ()}  # those of a stream aren't known
        lacking = [column for column in asked if column not in columns]
        if lacking and setting in run.settings.data.from_recipe and columns:
            logger.warning("the data have no column %s: %s of the recipe goes without", ", ".join(lacking), setting)
            setattr(run.settings.training, setting, [column for column in asked if column in columns])


def check_parts(training_args, parts):
    """Refuses to start where what is asked for at the end has no data."""
    if training_args.do_predict and "test" not in parts:
        raise ValueError(f"--do_predict needs a test part, found {', '.join(parts)}; give --test_file")
    if training_args.cross_fit and "validation" not in parts and "test" not in parts:
        training_args.do_eval = False  # what the folds are right for is told with the calibration
    if training_args.do_eval and not ({"validation", "test"} & set(parts)):
        raise ValueError("--do_eval needs a validation or test part; give one, or a --validation_fraction above 0")
    scored = any("answer" in parts[part].column_names for part in REPORTED if part in parts)
    if training_args.do_eval and not training_args.do_predict and not scored:
        raise ValueError(
            "--do_eval has nothing to evaluate: no row of the test part has an answer. Give --answer_column if one has "
            "them, or a --validation_file; `dualvqa predict` answers the questions without a score"
        )

"""What a trainer keeps of what was reached: files of figures in the run's folder, and the record for the model card."""

import contextlib
import logging
import os
from pathlib import Path

from processing import AnswerRules, AnswerVocabulary, StreamedRows, held_out, leakage_report, question_type_of
from processing.python_rows import is_canonical
from processing.trained_rows import sketch_of, trained_share

from .building import Start
from .failures import model_is_kept, named
from .output_folder import claimed
from .preparing import part_name
from .record import describe_part, figures, run_record

logger = logging.getLogger(__name__)

# What a folder says of its model.
RESULTS = [*(f"{name}_results.json" for name in ("all", "eval", "eval_*", "test", "calibration")), "report.html"]
RESULTS += ["report.json", "report_rows.jsonl"]
# What commands leave beside it, and people ask for: not taken away.
EARLIER = ("predictions.jsonl", "prediction", "evaluation")


def forget_results(folder):
    """Takes away what a model that was in a folder before has reached: the new one has not."""
    for path in [path for pattern in RESULTS for path in Path(folder).glob(pattern)]:
        path.unlink(missing_ok=True)


def warn_of_earlier(folder, own_names=()):
    """Names what a model that was in a folder before has answered, or was found to reach, in files that a person may
    want to keep: they stay.

    Args:
        own_names: files that the new model is about to write.
    """
    found = [name for name in EARLIER if name not in own_names and os.path.exists(os.path.join(folder, name))]
    if found:
        logger.warning(
            "%s in %s %s of a model that was there before, not of this one",
            " and ".join(found),
            folder,
            "are" if len(found) > 1 else "is",
        )


def same_rows(one, other):
    """Whether two canonical datasets have the same images, questions and answers in the same order."""
    if one is other:
        return True
    columns = [name for name in ("image_key", "question", "answer") if name in one.column_names]
    return len(one) == len(other) and all(
        name in other.column_names and one[name][:] == other[name][:] for name in columns
    )


class RecordingMixin:
    """The figures of [`DualHeadTrainer`] as files and on the model card, where it has a processor.

    It overrides `evaluate` and `predict` of transformers 5.23's Trainer.
    """

    def start_record(self):
        """Begins the record of a training run in the model's configuration."""
        if not self.complete:
            return
        model = self.accelerator.unwrap_model(self.model)
        vocabulary = AnswerVocabulary.of(self.processing_class)
        parts = self.all_parts().items()
        data = [
            describe_part(name, rows, vocabulary, self.train_summary, self.data_args)
            if name == "train"
            else self.described_part(name, rows)
            for name, rows in parts
        ]
        start = getattr(model, "start", None) or Start(continued_from=model.name_or_path or None)
        record = run_record(start, self.args, self.data_args, data)
        record["answer_rules"], train = self.processing_class.answer_rules, dict(parts).get("train")
        if train is not None and not isinstance(train, StreamedRows):
            record["trained_on"] = sketch_of(train, (model.config.model_card or {}).get("trained_on"))
        model.config.model_card = record

    def tell_of_trained(self, part, rows):
        """Warns where the model was trained on rows that are to judge it."""
        card = getattr(self.accelerator.unwrap_model(self.model).config, "model_card", None) or {}
        told, trained = trained_share(rows, card["trained_on"]) if card.get("trained_on") else (0, 0)
        if trained:
            logger.warning(
                "%s: the model was trained on about %d %% of these %s questions (%d of %d that can be told, by image "
                "and words): figures, temperatures and a threshold from them promise nothing of new questions; give "
                "others",
                part,
                max(1, round(100 * trained / told)),
                f"{len(rows):,}",
                trained,
                told,
            )

    def described_part(self, name, rows):
        """What the card says of an evaluated part; see `describe_part`."""
        described = describe_part(
            name, rows, AnswerVocabulary.of(self.processing_class), None, self.data_args, self.says_yes_and_no()
        )
        return {**described, "held_out": held_out(self.leakage(rows))}

    def leakage(self, rows):
        """The `leakage_report` of canonical rows; None where there is no training part in memory to compare with."""
        train = self.parts().get("train")
        return None if train is None or isinstance(train, StreamedRows) else self.compared(train, rows)

    def compared(self, train, rows):
        """The `leakage_report` of two parts, made once."""
        found = next((report for *pair, report in self.leakages if pair[0] is train and pair[1] is rows), None)
        if found is None:
            found = leakage_report(
                train, rows, self.data_args.question_group_column, AnswerRules.of(self.processing_class)
            )
            self.leakages.append((train, rows, found))
        return found

    def keep(self, name, metrics, rows=None):
        """Saves the figures of a part as `<name>_results.json`, and notes those of a run that trains for the card.

        Args:
            name: "train", "eval" or that of one of several validation parts, "test" or "calibration"; figures of other
                names are saved and not on the card.
            metrics: with the prefix `<name>_`.
            rows: the canonical rows that were evaluated.

        Raises:
            OSError: the folder can't be written into; it names the file.
        """
        with named(os.path.join(self.args.output_dir, f"{name}_results.json")):
            way = held_out(self.leakage(rows)) if rows is not None else None
            self.save_metrics(name, {**metrics, **({f"{name}_held_out": way} if way else {})})
        model = self.accelerator.unwrap_model(self.model)
        card = model.config.model_card = model.config.model_card or {}
        if name == "train":
            card.setdefault("settings", []).append(["training time", f"{metrics['train_runtime'] / 60:.1f} minutes"])
            if metrics.get("averaged_checkpoints"):
                mean = f"mean of the last {metrics['averaged_checkpoints']} checkpoints"
                card["settings"].append(["weights", mean])
        elif name == "calibration" or (self.has_trained and name in (*self.validation_parts(), "test")):
            part = part_name(name)  # of a model that isn't trained here the card is that of its training
            card.setdefault("results", {})[part] = figures(metrics, name)
            if part == "test":
                others = [row for row in card.get("data", []) if row["part"] != part]
                card["data"] = [*others, self.described_part(part, rows)]

    def check_trained(self, why, then):
        """
        Args:
            why: what an untrained model's answers are not good for.
            then: the method that needs it trained.

        Raises:
            ValueError: the model is new, and no step was trained.
        """
        model = self.accelerator.unwrap_model(self.model)
        start = getattr(model, "start", None)
        if not (self.has_trained or self.state.global_step or model.name_or_path or (start and start.continued_from)):
            raise ValueError(f"the model is not trained yet, and {why}: call train() before {then}")

    def finish(self, metrics):
        """Leaves a whole folder after training: the model, its figures, the state and the card."""
        with claimed(self.args.output_dir) if self.args.should_save else contextlib.nullcontext():
            self.save_model(_internal_call=True)  # a push comes last: it may fail, and has nothing to say yet
            forget_results(self.args.output_dir)
            if self.args.should_save:
                warn_of_earlier(self.args.output_dir, ["predictions.jsonl"] if self.args.do_predict else [])
        with model_is_kept(self.args.output_dir):
            with named(os.path.join(self.args.output_dir, "trainer_state.json")):
                self.save_state()
            self.keep("train", metrics)
            self.create_model_card()

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        """As in transformers, of raw rows too. Outside of training the figures are saved and noted for the card.

        Those of other rows than the validation part are only given back, unless they have a `metric_key_prefix` of
        their own: "test" for those of a test part.

        Raises:
            ValueError: no rows to evaluate, or rows without answers.
        """
        if eval_dataset is None and self.eval_dataset is None:
            raise ValueError("there is nothing to evaluate: give the trainer an eval_dataset, or evaluate(rows)")
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            eval_dataset = self.canonical(eval_dataset, "eval_dataset")
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        evaluated = self.eval_dataset if eval_dataset is None else eval_dataset
        evaluated = self.eval_dataset[evaluated] if isinstance(evaluated, str) else evaluated
        if self.complete and not self.is_in_train and is_canonical(evaluated):
            validation = self.parts().get("validation")
            if metric_key_prefix != "eval" or (validation is not None and same_rows(evaluated, validation)):
                self.note(metric_key_prefix, metrics, evaluated, self.latest_predictions)
        return metrics

    def note(self, name, metrics, rows, predictions):
        """Keeps the figures of a part, and the predictions that they come from, for the report."""
        self.keep(name, metrics, rows)
        if predictions is not None:
            self.last_outputs[name] = (rows, predictions)
        if self.has_trained:
            self.create_model_card()

    def predict(self, test_dataset, ignore_keys=None, metric_key_prefix="test"):
        """As in transformers, of raw rows too, with or without answers.

        What is predicted is no result: figures of a test part are saved and noted for the card and the report by
        `evaluate(rows, metric_key_prefix="test")`.
        """
        rows = self.canonical(test_dataset, "test_dataset", needs_answers=False)
        return super().predict(rows, ignore_keys, metric_key_prefix)

    def evaluated_types(self):
        """The question types of the validation part, None where they aren't known."""
        rows = self.parts().get("validation")
        if rows is None or "answer" not in rows.column_names:
            return None
        forms = map(AnswerRules.of(self.processing_class).consensus, rows["answer"][:])
        return sorted({("binary", "open_ended")[question_type_of(form)] for form in forms})

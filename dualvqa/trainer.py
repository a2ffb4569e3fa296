"""The trainer that a person uses: it trains, calibrates, predicts and reports, and leaves one folder with all of it."""

import copy
import logging
import os

from dualvqa.deployment.ensemble import load_ensemble
from dualvqa.reporting.figures import choose_columns
from dualvqa.reporting.report import EvaluatedRun, write_report
from dualvqa.training.checkpoints import newest_checkpoint
from dualvqa.training.failures import named, only_warned
from dualvqa.training.preparing import part_name
from dualvqa.training.recording import same_rows
from dualvqa.training.refitting import check_refit, refit, remove_refit
from dualvqa.training.teacher import ask_teacher, check_teacher
from dualvqa.training.trainer import DualHeadTrainer
from dualvqa.trust.arguments import CalibrationArguments
from dualvqa.trust.calibrating import calibrate, check_possible, fit_familiarity
from dualvqa.trust.metrics import score_figures
from modeling_dualvqa.model_card_dualvqa import refit_note
from processing import decoded, ranked_arrays, write_predictions
from processing.python_rows import is_canonical, source_rows
from processing.wording import speaking_python

logger = logging.getLogger(__name__)


@speaking_python("__init__", "train", "evaluate", "predict", "calibrate", "refit", "write_predictions", "write_report")
class DualVQATrainer(DualHeadTrainer):
    """[`DualHeadTrainer`] with calibration, files of predictions and the report; all that `run_vqa.py` does.

    Args:
        *args, **kwargs: see [`DualHeadTrainer`].

    Raises:
        ValueError: see there; a teacher that has other heads or answers than the model.

    Example:
        ```python
        model, processor = build_model(rows, vision="mobilenet_v3_small", text="distilbert-base-uncased")
        trainer = DualVQATrainer(model=model, processing_class=processor, args=DualVQATrainingArguments("runs/mine"),
                                 train_dataset=rows, eval_dataset=others)
        trainer.train()
        ```
    """

    score_figures = staticmethod(score_figures)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.untrained = self.teacher = self.teaching = self.calibrated_on = self.blind = self.refitted_on = None
        if self.args.teacher and self.train_summary is not None:
            self.teaching = load_ensemble(self.args.teacher, "probabilities")
            check_teacher(*self.teaching, self.accelerator.unwrap_model(self.model), self.processing_class)

    def prepare_model(self):
        self.blind = self.refitted_on = None
        if self.args.refit:
            check_refit(self)
        if self.args.report_blind or self.args.refit:  # what is trained again starts where this one does
            self.untrained = copy.deepcopy(self.accelerator.unwrap_model(self.model))
        super().prepare_model()

    def forget_calibration(self):
        super().forget_calibration()
        self.calibrated_on = None

    def prepare_inputs(self):
        super().prepare_inputs()
        if self.teaching and self.teacher is None:
            self.teacher = ask_teacher(DualHeadTrainer, self.teaching, self)
            self.train_collator.further.append(self.teacher)

    def calibrate(self, max_risk=None, risk_confidence=0.95, fit_familiarity=False):
        """Calibrates the trained model on the validation part, and saves it with what was found.

        Args:
            max_risk: also choose the score below which questions are left unanswered, so that of the answers given at
                most this share is wrong.
            risk_confidence: probability with which that holds on other questions.
            fit_familiarity: also learn from the training part to flag questions that are unlike those of training.

        Returns:
            The figures, see `calibrating.calibrate`.

        Raises:
            ValueError: the model is not trained yet, or there are too few validation questions with answers.
        """
        settings = CalibrationArguments("true", max_risk, risk_confidence, fit_familiarity)
        settings.check_calibration()
        self.check_calibration(settings)
        if isinstance(self.eval_dataset, dict):
            logger.info("calibrating on the first of several evaluation datasets, %s", next(iter(self.eval_dataset)))
        figures = calibrate(self, self.parts(), settings)
        self.calibrated_on = self.parts()["validation"]
        self.keep("calibration", figures)
        self.save_model(_internal_call=True)
        self.create_model_card()
        return figures

    def refit(self):
        """Trains anew on the training and the validation part together, and saves that model in place of the first.

        It starts as the first model did and takes as many steps. What was found with held-out questions stays: the
        temperatures, the threshold and the limits of familiarity. Nothing is held out of the new model: figures of the
        validation part are those of the first, and the card and the report say so. Figures of a test part that were
        measured before are dropped. Until the new model is saved whole, the first is in the output folder.

        Raises:
            ValueError: the model is not trained yet, or without the argument `refit`, which keeps what it started from;
                no validation part.
        """
        if not (self.has_trained and self.args.refit):
            raise ValueError(
                "refit() trains a model anew that train() has trained with DualVQATrainingArguments(refit=True), which "
                "keeps what it started from"
            )
        check_refit(self)
        trained, rows, steps = refit(self, self.untrained)
        model = self.accelerator.unwrap_model(self.model)
        familiar = bool(model.config.familiarity)
        model.forget_familiarity()
        model.load_state_dict(trained.state_dict())
        self.refitted_on = rows
        if familiar:  # the states are others, the limits stay
            fit_familiarity(self, model, rows)
        card = model.config.model_card
        card["refit"] = {"questions": len(rows), "images": len(set(rows["image_key"][:])), "steps": steps}
        card["results"].pop("test", None)
        self.last_outputs.pop("test", None)
        self.save_model(_internal_call=True)
        self.create_model_card()
        if self.is_world_process_zero():
            remove_refit(self.args.output_dir)

    def leakage(self, rows):
        """Of other rows than the validation part, whose figures are those of the first model, compared with all."""
        validation = self.parts().get("validation")
        if self.refitted_on is None or (validation is not None and same_rows(rows, validation)):
            return super().leakage(rows)
        return self.compared(self.refitted_on, rows)

    def check_calibration(self, settings):
        """
        Raises:
            ValueError: a model that is not trained, or data that are not there, or too few.
        """
        model = self.accelerator.unwrap_model(self.model)
        if self.refitted_on is not None:
            raise ValueError(
                "the model was trained on the validation part in its refit: call calibrate() before refit()"
            )
        self.check_trained("its scores mean nothing", "calibrate()")
        check_possible(self.parts(), self.processing_class, model.config.heads, settings.fit_familiarity)

    def write_predictions(self, rows, path="predictions.jsonl", top_k=5, source=None):
        """Writes the answers to some questions as JSON Lines; see `processing.predictions.write_predictions`.

        Args:
            rows: raw or canonical, with or without answers.
            path: the file; a relative one is beside the working directory.
            top_k: answers per question.
            source: of canonical rows those that they were made from, whose fields are written as they are there.

        Returns:
            The path.

        Raises:
            ValueError: see `prepare_dataset`; OSError: the file can't be written.
        """
        if source is None:
            own = is_canonical(rows)
            source = rows.remove_columns(["image_key", "row"]) if own else source_rows(rows, "test_dataset")
            rows = self.canonical(rows if own else source, "test_dataset", needs_answers=False)
            numbers = range(len(rows)) if own else rows["row"][:]
        else:
            numbers = rows["row"][:]
        arrays = self.ranked(rows, top_k)
        if self.is_world_process_zero():
            with named(path):
                write_predictions(path, decoded(arrays, self.processing_class), numbers, source)
            logger.info("%d predictions written to %s", len(rows), path)
        return path

    def ranked(self, rows, top_k):
        """The arrays of `ranked_arrays` of all rows; those that were evaluated are not predicted again."""
        processor = self.processing_class
        for evaluated, logits in self.last_outputs.values():
            if evaluated is rows:
                return ranked_arrays(logits, processor, top_k)
        if "answer" in rows.column_names:  # without labels the Trainer computes no loss of what it is given
            rows = rows.remove_columns("answer")
        kept = self.compute_metrics, self.preprocess_logits_for_metrics
        # Nothing needs all the logits, and of many rows they fill the memory.
        self.compute_metrics = None
        self.preprocess_logits_for_metrics = lambda logits, _: ranked_arrays(logits, processor, top_k)
        try:
            return self.predict(rows, metric_key_prefix="predict").predictions
        finally:
            self.compute_metrics, self.preprocess_logits_for_metrics = kept

    def write_report(self):
        """Writes report.html, report.json and report_rows.jsonl about the parts that were evaluated.

        With the argument `report_blind` a model without images is trained for it first, where this one was trained.

        Returns:
            The path of report.html; None on processes other than the first.

        Raises:
            ValueError: nothing that has answers was evaluated.
        """
        for prefix, rows in self.validation_parts().items():
            if prefix not in self.last_outputs and self.refitted_on is None and is_canonical(rows):
                self.evaluate(rows, metric_key_prefix=prefix)
        prefixes = [prefix for prefix in (*self.validation_parts(), "test") if prefix in self.last_outputs]
        found = {part_name(prefix): self.last_outputs[prefix] for prefix in prefixes}
        if not found:
            raise ValueError("there is nothing to report on: give the trainer an eval_dataset")
        rows = {name: rows for name, (rows, _) in found.items()}
        blind = None
        if self.args.report_blind and self.untrained is not None:
            with only_warned("no model without images"):
                blind = self.blind_outputs(dict(zip(prefixes, rows.values())))
        if not self.is_world_process_zero():
            return None
        run = EvaluatedRun(
            {**self.parts(), **rows},
            {name: logits for name, (_, logits) in found.items()},
            blind,
            choose_columns(rows, self.args.report_columns),
            self.about(),
            self.fitted_on(rows),
            self.data_args.question_group_column,
            self.refitted_on,
            self.majority_of(self.accelerator.unwrap_model(self.model)),
        )
        return write_report(self.args.output_dir, run, self.processing_class)

    def fitted_on(self, rows):
        """The part that the temperatures were fitted on, where this trainer has fitted them and it is among these."""
        fitted = [] if self.calibrated_on is None else rows.items()
        return next((name for name, own in fitted if name != "test" and same_rows(own, self.calibrated_on)), None)

    def about(self):
        """What a report says of its run; of a model that is only evaluated, how it was trained."""
        model = self.accelerator.unwrap_model(self.model)
        card, start = model.config.model_card or {}, getattr(model, "start", None)
        about = {"title": os.path.basename(os.path.normpath(self.args.output_dir))}
        if self.has_trained:
            refitted = {"refit": refit_note(card)} if card.get("refit") else {}
            return {**about, "data": card["data"], "settings": card["settings"], **refitted}
        name = os.path.basename(os.path.normpath((start and start.continued_from) or model.name_or_path or "model"))
        return {**about, "settings": [["model", name], *card.get("settings", [])]}

    def note(self, name, metrics, rows, predictions):
        if self.refitted_on is not None and same_rows(rows, self.parts()["validation"]):
            logger.warning("the model was trained on the validation part in its refit: its figures there are not kept")
        else:
            super().note(name, metrics, rows, predictions)

    def blind_outputs(self, rows):
        """The logits of a model without images for some parts, by their names. It is trained once.

        Args:
            rows: prefix of a part's figures -> canonical rows.
        """
        self.blind = self.blind or self.train_blind()
        for prefix, part in rows.items():
            if prefix not in self.blind.last_outputs:
                self.blind.evaluate(part, metric_key_prefix=prefix)
        self.blind.create_model_card()
        return {part_name(prefix): self.blind.last_outputs[prefix][1] for prefix in rows}

    def train_blind(self):
        """A trainer whose model was trained without seeing images."""
        args = copy.copy(self.args)
        args.output_dir = os.path.join(self.args.output_dir, "blind")
        args.image_cache_dir = self.args.image_cache_dir or os.path.join(self.args.output_dir, "image_cache")
        args.push_to_hub, args.report_to, args.report_blind, args.refit, args.teacher = False, [], False, False, []
        blind = type(self)(
            model=copy.deepcopy(self.untrained),
            args=args,
            train_dataset=self.train_dataset,
            eval_dataset=self.eval_dataset,
            processing_class=self.processing_class.without_calibration(),  # training drops what its processor knows
            data_args=self.data_args,
        )
        blind.described = True
        for collator in (blind.data_collator, blind.train_collator):
            collator.blind = True
        blind.train_collator.further = self.train_collator.further
        logger.info("training again without images, for the report")
        blind.train(resume_from_checkpoint=newest_checkpoint(args.output_dir) if self.checkpoint else None)
        model = blind.accelerator.unwrap_model(blind.model)
        model.config.model_card["settings"].append(["images", "not seen: all pixels are the mean"])
        return blind

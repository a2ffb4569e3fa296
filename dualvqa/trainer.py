"""The trainer that a person uses: it trains, calibrates, predicts and reports, and leaves one folder with all of it."""

import copy
import logging
import os

from dualvqa.deployment.ensemble import load_ensemble
from dualvqa.reporting.figures import choose_columns
from dualvqa.reporting.report import EvaluatedRun, write_report
from dualvqa.training.failures import model_is_kept, named, only_warned
from dualvqa.training.preparing import part_name
from dualvqa.training.recording import same_rows
from dualvqa.training.refitting import check_refit
from dualvqa.training.teacher import ask_teacher, check_teacher
from dualvqa.training.trainer import DualHeadTrainer
from dualvqa.trust.arguments import CalibrationArguments
from dualvqa.trust.calibrating import calibrate
from dualvqa.trust.cross_fitting_of_trainer import CrossFittingMixin
from dualvqa.trust.memory_of_trainer import MemoryMixin
from dualvqa.trust.metrics import score_figures
from dualvqa.trust.remembering import check_memory
from dualvqa.trust.retraining import RetrainingMixin
from modeling_dualvqa.card_notes_dualvqa import cross_fit_note, memory_note, refit_note
from processing import decoded, ranked_arrays, write_predictions
from processing.python_rows import is_canonical, own_fields, source_rows
from processing.wording import speaking_python

logger = logging.getLogger(__name__)


@speaking_python(
    *("__init__", "train", "evaluate", "predict", "calibrate", "refit", "build_memory", "write_predictions"),
    "write_report",
)
class DualVQATrainer(CrossFittingMixin, RetrainingMixin, MemoryMixin, DualHeadTrainer):
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
        self.without_memory = {}  # as `last_outputs`
        self.before_refit = {}  # prefix -> the first model's of `last_outputs`, and the words of its memory
        if self.args.teacher and self.train_summary is not None:
            self.teaching = load_ensemble(self.args.teacher, "probabilities")
            check_teacher(*self.teaching, self.accelerator.unwrap_model(self.model), self.processing_class)

    def prepare_model(self):
        self.blind, self.refitted_on, self.without_memory = None, None, {}
        self.before_refit = {}
        if self.args.refit:
            check_refit(self)
        if self.args.memory:
            check_memory(self)
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

    def finish(self, metrics):
        super().finish(metrics)
        if self.args.memory:
            with model_is_kept(self.args.output_dir):
                self.build_memory(self.args.memory_texts)

    def calibrate(self, max_risk=None, risk_confidence=0.95, fit_familiarity=False, risk_of="answers", promise_by=None):
        """Calibrates the trained model on the validation part, and saves it with what was found.

        Questions that the model's memory has word for word are left out, with a warning: they promise nothing.

        Args:
            max_risk: also choose the score below which questions are left unanswered, so that of the answers given at
                most this share is wrong.
            risk_confidence: probability with which that holds on other questions.
            fit_familiarity: also learn from the training part to flag questions that are unlike those of training.
            risk_of: what `max_risk` is a share of: "answers", those given; "questions", all that are asked, answered or
                not, in expectation.
            promise_by: "head" or a column: each of its groups gets a threshold and sets of its own.

        Returns:
            The figures, see `calibrating.calibrate`.

        Raises:
            ValueError: the model is not trained yet, or there are too few validation questions with answers.
        """
        settings = CalibrationArguments(
            "true", max_risk, risk_of, promise_by, risk_confidence=risk_confidence, fit_familiarity=fit_familiarity
        )
        settings.check_calibration()
        folds = self.out_of_fold is not None
        parts = None if folds else self.check_calibration(settings)
        if isinstance(self.eval_dataset, dict):
            logger.info("calibrating on the first of several evaluation datasets, %s", next(iter(self.eval_dataset)))
        figures = self.calibrated_by_folds(settings) if folds else calibrate(self, parts, settings)
        self.calibrated_on = self.parts().get("validation")
        self.keep("calibration", figures)
        self.save_model(_internal_call=True)
        self.create_model_card()
        return figures

    def check_calibration(self, settings):
        """
        Returns:
            The parts to calibrate with, see `calibration_parts`.

        Raises:
            ValueError: a model that is not trained, or data that are not there, or too few.
        """
        self.check_held_out("calibrate()")
        self.check_trained("its scores mean nothing", "calibrate()")
        if "validation" in self.parts():
            self.tell_of("validation", self.parts()["validation"])
        return self.calibration_parts(settings.fit_familiarity)

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
            source = own_fields(rows) if own else source_rows(rows, "test_dataset", self.data_args)
            rows = self.canonical(rows if own else source, "test_dataset", needs_answers=False)
            numbers = range(len(rows)) if own else rows["row"][:]
        else:
            numbers = rows["row"][:]
        arrays = self.ranked(rows, top_k)
        if self.is_world_process_zero():
            with named(path):
                write_predictions(path, decoded(arrays, self.processing_class, rows), numbers, source)
            logger.info("%d predictions written to %s", len(rows), path)
        return path

    def ranked(self, rows, top_k):
        """The arrays of `ranked_arrays` of all rows; those that were evaluated are not predicted again."""
        processor = self.processing_class
        for prefix, (evaluated, logits) in self.last_outputs.items():
            if evaluated is rows and prefix not in self.before_refit:
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
        alone = self.alone_logits(dict(zip(rows, prefixes)))
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
            alone,
            self.evidence(),
            {part_name(prefix): self.words_of(prefix) for prefix in prefixes},
        )
        return write_report(self.args.output_dir, run, self.processing_class)

    def words_of(self, prefix):
        """The `memory_answers` that these of `last_outputs` are of: after a refit the first model's had others."""
        outputs, words = self.before_refit.get(prefix, (None, None))
        return words if outputs is self.last_outputs[prefix] else self.processing_class.memory_answers

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
            notes = {"refit": refit_note(card)} if card.get("refit") else {}
            notes |= {"cross_fit": cross_fit_note(card)} if card.get("cross_fit") else {}
            notes |= {"memory": memory_note(model.config.memory, card)} if model.config.memory else {}
            return {**about, "data": card["data"], "settings": card["settings"], **notes}
        members = getattr(model, "models", None)  # of an ensemble, whose configuration is the first one's
        paths = [(start and start.continued_from) or one.name_or_path or "model" for one in members or [model]]
        name = ", ".join(os.path.basename(os.path.normpath(path)) for path in paths)
        return {**about, "settings": [["model", name], *([] if members else card.get("settings", []))]}

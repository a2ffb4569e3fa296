"""A trainer that calibrates on all of its training questions: models of folds first, then one of all."""

import copy
import os
import shutil

from dualvqa.training.output_folder import claimed
from processing import StreamedRows
from processing.splits import units_of

from .cross_fitting import FOLDER, OutOfFold, calibration_of_folds, last_state, train_fold
from .fold_origin import origin_of, take_up


class CrossFittingMixin:
    """The methods of [`DualVQATrainer`] for the argument `cross_fit`."""

    out_of_fold = origin = None

    def take_data(self, given, column_mapping, data_args):
        super().take_data(given, column_mapping, data_args)
        if given["args"].cross_fit:
            given["args"] = last_state(given["args"])

    def train(self, resume_from_checkpoint=None, trial=None, **kwargs):
        """As in `DualHeadTrainer`; with `cross_fit` the models of all folds are trained first.

        Each sees no question about the images of its fold, and its scores of these are kept for `calibrate()` in
        OUTPUT_DIR/folds. Then the model is trained on all questions, for as many steps. Resumed, what is finished is
        not done again.

        Raises:
            ValueError: see `check_cross_fit` and there; resumed, the folds are of another training.
        """
        if not self.args.cross_fit or trial is not None:
            return super().train(resume_from_checkpoint, trial, **kwargs)
        self.check_cross_fit()
        asked = str(resume_from_checkpoint or self.args.resume_from_checkpoint or "").lower()
        resumes = asked not in ("", "false")
        with claimed(self.args.output_dir):
            if not resumes:
                shutil.rmtree(os.path.join(self.args.output_dir, FOLDER), ignore_errors=True)
            if not self.described:
                self.describe_data()
                self.described = True
            start = copy.deepcopy(self.accelerator.unwrap_model(self.model)).cpu()
            self.origin = origin_of(self, start)
            if resumes:  # all folds, before anything is trained
                for fold in range(self.args.cross_fit):
                    take_up(os.path.join(self.args.output_dir, FOLDER, str(fold)), self.origin)
                self.accelerator.wait_for_everyone()  # one process writes what all have to look at first
            self.prepare_inputs()
            folds = [train_fold(self, start, fold, resumes) for fold in range(self.args.cross_fit)]
            self.out_of_fold = OutOfFold(folds, len(self.train_dataset))
            before, self.args.max_steps = self.args.max_steps, self.out_of_fold.steps
            try:
                return super().train(resume_from_checkpoint, trial, **kwargs)
            finally:
                self.args.max_steps = before

    def finish(self, metrics):
        super().finish(metrics)
        if self.out_of_fold is None:
            return
        model = self.accelerator.unwrap_model(self.model)
        if model.memory is not None and self.out_of_fold.memory_parameters():
            model.memory.settings = {**model.memory.settings, **self.out_of_fold.memory_parameters()}
            model.set_memory(model.memory)
        model.config.model_card["cross_fit"] = {
            "folds": self.args.cross_fit,
            "questions": len(self.train_dataset),
            "images": len(set(self.train_dataset["image_key"][:])),
            "steps": self.out_of_fold.steps,
        }
        self.save_model(_internal_call=True)
        self.create_model_card()

    def check_cross_fit(self):
        """
        Raises:
            ValueError: no training part that folds can be cut from, or a validation part.
        """
        parts, args, reason = self.parts(), self.args, None
        if "train" not in parts or isinstance(self.train_dataset, StreamedRows) or not self.complete:
            reason = "it needs a training part that isn't streamed"
        elif self.eval_dataset is not None:
            reason = "every training question is held out once: leave the validation part out, and --folds"
        elif args.refit or args.report_blind:
            reason = "the model is trained on all questions already: leave --refit and --report_blind out"
        elif self.is_deepspeed_enabled or self.is_fsdp_enabled:
            reason = "DeepSpeed and FSDP spread the model over processes; use DDP or one process"
        else:
            images = len({unit for unit, _ in units_of(self.train_dataset, "image")})
            if images < 2 * args.cross_fit:
                reason = f"{args.cross_fit} folds need {2 * args.cross_fit} different images or more, found {images}"
        if reason:
            raise ValueError(f"cross_fit trains a model for each fold of the training images: {reason}")

    def calibrated_by_folds(self, settings):
        """The calibration from the out-of-fold scores, and its figures.

        Raises:
            ValueError: familiarity is asked for, which needs held-out states of the model itself.
        """
        if settings.fit_familiarity:
            raise ValueError("--fit_familiarity needs a validation part of the model itself: leave out --cross_fit")
        processor = self.processing_class
        processor.calibration = None
        processor.calibration, figures = calibration_of_folds(self.out_of_fold, processor, self.train_dataset, settings)
        return {f"calibration_{name}": value for name, value in figures.items()}

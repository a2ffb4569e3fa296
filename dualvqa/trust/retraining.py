"""Trainings besides the one of a run: on all of its questions, and without seeing images."""

import copy
import logging
import os

from dualvqa.training.checkpoints import newest_checkpoint
from dualvqa.training.preparing import part_name
from dualvqa.training.recording import same_rows
from dualvqa.training.refitting import check_refit, refit, remove_refit
from modeling_dualvqa.memory_examples_dualvqa import PARAMETERS

from .familiarity_fitting import fit_familiarity
from .remembering import build_memory

logger = logging.getLogger(__name__)


class RetrainingMixin:
    """The methods of [`DualVQATrainer`] that train its model again, from what it started from."""

    def refit(self):
        """Trains anew on the training and the validation part together, and saves that model in place of the first.

        It starts as the first model did and takes as many steps. What was found with held-out questions stays: the
        temperatures, the threshold, the limits of familiarity, the memory's parameters. Nothing is held out of the new
        model: figures of the validation part are those of the first, and the card and the report say so. Figures of a
        test part that were measured before are dropped. Until the new model is saved whole, the first is in the output
        folder.

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
        self.alone_logits({prefix: prefix for prefix in self.last_outputs})  # of the first model, for the report
        trained, rows, steps = refit(self, self.untrained)
        model = self.accelerator.unwrap_model(self.model)
        memory, words = model.memory, self.processing_class.memory_answers
        familiar, familiarity = bool(model.config.familiarity), model.familiarity
        model.forget_familiarity()
        model.forget_memory()
        model.load_state_dict(trained.state_dict())
        self.refitted_on = rows
        if familiar:  # the states are others, the limits stay
            fit_familiarity(self, rows, before=familiarity)
        if memory is not None:  # keys of the new states, the parameters stay
            build_memory(self, rows, {name: memory.settings[name] for name in PARAMETERS}, memory.texts is not None)
        card = model.config.model_card
        card["refit"] = {"questions": len(rows), "images": len(set(rows["image_key"][:])), "steps": steps}
        card["results"].pop("test", None)
        self.last_outputs.pop("test", None)
        self.without_memory.pop("test", None)
        self.before_refit = {prefix: (outputs, words) for prefix, outputs in self.last_outputs.items()}
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

    def check_held_out(self, call):
        """
        Raises:
            ValueError: the model was trained on the validation part as well.
        """
        if self.refitted_on is not None:
            raise ValueError(f"the refit was trained on the validation part: call {call} before refit()")

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
        args.push_to_hub, args.report_to, args.teacher = False, [], []
        args.report_blind = args.refit = args.memory = False
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

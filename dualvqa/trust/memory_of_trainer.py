"""The memory of a trainer's model: built after training, compared with the heads alone, shown as evidence."""

import logging

from modeling_dualvqa import DualVQAPipeline
from processing import held_out
from processing.image_loading_dualvqa import load_image
from processing.image_sources_dualvqa import CHECKED

from .remembering import build_memory, check_memory, fit_memory, heads_alone

logger = logging.getLogger(__name__)


class MemoryMixin:
    """The methods of [`DualVQATrainer`] that concern its model's memory."""

    def build_memory(self, save_texts=True):
        """Gives the trained model a memory of its training questions, and saves it; with `memory` train() does so.

        How much the memory counts is fitted on the validation part, as far as it isn't in training word for word.

        Args:
            save_texts: also keep image names, questions and answers beside the weights, for evidence.

        Returns:
            The figures, see `remembering.fit_memory`, or None where there are too few validation questions: it then
            has the parameters that it usually has.

        Raises:
            ValueError: the model is not trained yet, or was trained on the validation part by refit(); there are no
                training questions that a memory can be made of, or too many.
        """
        self.check_held_out("build_memory()")
        self.check_trained("its memory would be of other weights", "build_memory()")
        check_memory(self)
        model, parts = self.accelerator.unwrap_model(self.model), self.parts()
        if self.processing_class.calibration:
            logger.warning("the calibration is of the model without a memory, and dropped; calibrate it anew")
            self.processing_class.calibration = None
        self.last_outputs = {}  # it answers otherwise now
        build_memory(self, parts["train"], {}, save_texts)
        figures = None
        if "validation" in parts and "answer" in parts["validation"].column_names:
            figures = fit_memory(self, parts["validation"], parts["train"])
        model.config.model_card = model.config.model_card or {}
        model.config.model_card["memory"] = figures and {
            **figures,
            "held_out": held_out(self.leakage(parts["validation"])),
        }
        self.save_model(_internal_call=True)
        self.create_model_card()
        return figures

    def alone_logits(self, prefixes):
        """Part -> the prediction arrays without the memory, of parts that were evaluated with it; None without one."""
        if getattr(self.accelerator.unwrap_model(self.model), "memory", None) is None:  # an ensemble's are its members'
            return None
        for prefix in set(prefixes.values()) & self.last_outputs.keys():
            rows, _ = self.last_outputs[prefix]
            known, arrays = self.without_memory.get(prefix, (None, None))
            if known is not rows:
                arrays = tuple(scores.numpy() for scores in heads_alone(self, rows).values())
                self.without_memory[prefix] = (rows, arrays if len(arrays) > 1 else arrays[0])
        return {name: self.without_memory[prefix][1] for name, prefix in prefixes.items()}

    def evidence(self, count=3):
        """A function of image and question: what the memory has for the answer; None where no texts are kept.

        None after a refit, too: its memory has the validation questions themselves, which the first model's had not.
        """
        model = self.accelerator.unwrap_model(self.model)
        memory = getattr(model, "memory", None)
        if memory is None or memory.texts is None or self.refitted_on is not None:
            return None
        pipe = DualVQAPipeline(model=model.eval(), processor=self.processing_class)

        def found(image, question):
            answers = pipe(load_image(image, CHECKED), question, evidence=count, abstain=False)
            return answers[0]["evidence"]

        return found

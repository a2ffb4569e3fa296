"""The memory of a trainer's model: built after training, compared with the heads alone, shown as evidence."""

import logging

from dualvqa.training.preparing import part_name
from modeling_dualvqa import DualVQAPipeline
from processing import StreamedRows, held_out
from processing.image_loading_dualvqa import load_image
from processing.image_sources_dualvqa import CHECKED
from processing.python_rows import is_canonical

from .calibrating import check_possible
from .remembering import build_memory, check_memory, fit_memory, heads_alone, remembered

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
            before = "without a memory" if model.memory is None else "with the memory that this one takes the place of"
            logger.warning("the calibration is of the model %s, and dropped; calibrate it anew", before)
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

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        """As in `RecordingMixin`; it warns of questions that the model's memory has word for word."""
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            eval_dataset = self.canonical(eval_dataset, "eval_dataset")
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        rows = self.eval_dataset[rows] if isinstance(rows, str) else rows
        if not self.is_in_train and not isinstance(rows, dict):  # of several each is evaluated on its own
            known = self.remembered_questions(rows)
            leakage = self.leakage(rows) if known is not None else None
            if known is not None and int(known.sum()) > (leakage or {}).get("image_question_pairs_seen", 0):
                logger.warning(
                    "%s: their answers are copied, and the figures say nothing of new questions",
                    said_of(part_name(metric_key_prefix), known),
                )
        return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def remembered_questions(self, rows):
        """(n,) which questions the memory has word for word; None where none can be known, or the leakage says it.

        A memory that was made here is the training part, with which the trainer compares its parts, but for what it was
        taught.
        """
        model = self.accelerator.unwrap_model(self.model)
        readable = rows is not None and self.complete and self.reads_rows and is_canonical(rows)
        if not readable or isinstance(rows, StreamedRows) or not len(rows):
            return None
        memory = getattr(model, "memory", None)
        if self.has_trained and not (memory is not None and bool(memory.taught.any())):
            return None
        return remembered(self, rows)

    def calibration_parts(self, fit_familiarity):
        """The parts to calibrate with: of the validation part the questions that the memory doesn't have word for word.

        With the others, which it answers by heart, scores would seem truer and promises be broken by new questions.

        Raises:
            ValueError: too few questions are left.
        """
        parts, heads = self.parts(), self.accelerator.unwrap_model(self.model).config.heads
        check_possible(parts, self.processing_class, heads, fit_familiarity)
        known = self.remembered_questions(parts["validation"])
        if known is None or not known.any():
            return parts
        said = f"{said_of('validation', known)}, and promise nothing of new ones: they are left out of calibration"
        parts["validation"] = parts["validation"].select((~known).nonzero()[:, 0].tolist())
        try:
            check_possible(parts, self.processing_class, heads, fit_familiarity)
        except ValueError as error:
            raise ValueError(f"{said}. Without them {error}") from error
        logger.warning("%s", said)
        return parts

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


def said_of(part, known):
    """In words how many questions of a part the memory has: `known` (n,)."""
    count = int(known.sum())
    return f"{count:,} of {len(known):,} {part} questions are in the model's memory word for word, about the same image"

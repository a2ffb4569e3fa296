"""The processor: questions and images in, tensors out; logits in, answers out."""

import copy
import os
import threading
from pathlib import Path

import torch
from transformers import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .code_table_dualvqa import list_code
from .image_processing_dualvqa import DualVQAImageProcessor  # noqa: F401 - a saved folder ships it
from .processor_checks_dualvqa import (
    check_answer_rules,
    check_answers,
    check_calibration,
    check_files,
    check_image_processor,
    check_logits,
    check_question,
    check_tokenizer,
    check_unicode,
    check_weights,
)
from .promises_dualvqa import Promises, check_top_k
from .unfamiliar_dualvqa import foreign_codes, foreign_parts, tell_missing_familiarity

BINARY_ANSWERS = ("no", "yes")
QUESTION_TYPES = ("binary", "open_ended")


tokenizing = threading.Lock()  # a fast tokenizer keeps the padding and truncation of a call, and refuses a second one


def renew_lock():
    global tokenizing
    tokenizing = threading.Lock()


if hasattr(os, "register_at_fork"):  # a data loader's worker has no thread that would release a lock taken before it
    os.register_at_fork(after_in_child=renew_lock)


class DualVQAProcessor(ProcessorMixin):
    """Image processor, tokenizer and answer vocabulary in one.

    Args:
        image_processor: [`DualVQAImageProcessor`] or any other image processor.
        tokenizer: a transformers tokenizer.
        answers: the N answers of the open-ended head, in the order of its logits.
        calibration: what was learned about this model's scores on questions with known answers, None for nothing; a
            dict with any of
            - `temperatures`: head, or "question_type" for the router -> what its logits are divided by;
            - `abstention`: `threshold`, the lowest score that is answered, and what it was chosen for;
            - `sets`: `levels`, coverage -> lowest score of an answer in a set, and what they were chosen for;
            - `familiarity`: "image" and "question" -> the largest novelty that is familiar; of earlier versions others,
            those of `unfamiliar_dualvqa.earlier_scores`.
        memory_answers: the E answers that only the model's memory knows, behind the others in its logits.
        answer_rules: how its answers are compared, where that isn't as in English: a dict with any of `yes_answers` and
            `no_answers`, words that mean yes and no, of which the model says the first; `answer_language`; `metric`.
    """

    answer_rules = None  # also of a copy or pickle from before there were any
    text_kwargs = {"padding": True, "truncation": True, "return_token_type_ids": False}  # unless a call says otherwise

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        answers=None,
        calibration=None,
        memory_answers=None,
        answer_rules=None,
    ):
        super().__init__(image_processor, tokenizer)
        for words in (answers, memory_answers):
            check_answers(words or [])
        check_calibration(calibration)
        check_answer_rules(answer_rules)
        self.answers, self.memory_answers = list(answers or []), list(memory_answers or [])
        self.calibration, self.answer_rules = calibration, answer_rules

    @property
    def all_answers(self):
        """What the model can say to open-ended questions: `answers`, then `memory_answers`."""
        return [*self.answers, *self.memory_answers]

    @property
    def binary_answers(self):
        """What the model can say to yes/no questions, by index: the words for no and for yes."""
        rules = self.answer_rules or {}
        return tuple((rules.get(f"{word}_answers") or [word])[0] for word in BINARY_ANSWERS)

    def __call__(self, images=None, text=None, **kwargs):
        """Encodes questions and images.

        Args:
            images, text: one or a list of each; either may be left out.
            **kwargs: options of the tokenizer and the image processor, as everywhere in transformers.

        Returns:
            BatchFeature with `input_ids` and `attention_mask` (B, T), `pixel_values` (U, 3, H, W).

        Raises:
            TypeError: an option that neither knows.
            ValueError: a text that isn't Unicode.
        """
        kinds = self.valid_processor_kwargs.__annotations__
        own = getattr(getattr(self, "image_processor", None), "valid_kwargs", None)
        known = {
            "text_kwargs": set(kinds["text_kwargs"].__annotations__),
            "images_kwargs": {*kinds["images_kwargs"].__annotations__, *getattr(own, "__annotations__", {})},
        }
        common = kwargs.pop("common_kwargs", None) or {}
        unknown = {*kwargs, *common}.difference(kinds, *known.values())
        unknown = unknown.union(*(set(kwargs.get(kind) or {}) - names for kind, names in known.items()))
        if unknown:
            raise TypeError(f"unknown options: {', '.join(sorted(unknown))}; see the tokenizer's and image processor's")
        for kind, names in known.items():  # what is given to one of them, or by itself, goes before what is for both
            shared = {name: value for name, value in common.items() if name in names and name not in kwargs}
            kwargs[kind] = {**shared, **(kwargs.get(kind) or {})}
        for one in [text] if isinstance(text, str) else text or []:
            if isinstance(one, str):
                check_unicode(one)
        if text is None:
            return super().__call__(images=images, **kwargs)
        with tokenizing:
            encoded = super().__call__(text=text, **kwargs)
        return encoded if images is None else BatchFeature({**encoded, **super().__call__(images=images, **kwargs)})

    def post_process_question_answering(
        self, outputs, top_k=1, question_type=None, abstain=None, coverage=None, group=None
    ):
        """Turns logits into answers; the only place where that is done.

        Args:
            outputs: what the model returned, or a dict with its logits.
            top_k: how many answers per question at most.
            question_type: None lets the model choose the head of each question; "binary" or "open_ended", or a list
                with one of them per question, chooses for it.
            abstain, coverage, group: see [`Promises`]. With `coverage` a question gets as many answers as it takes for
                the right one to be among them in that share of cases.

        Returns:
            For each question a list of at most `top_k` dicts, best first: `answer`, `score` and `question_type` (whose
            head answered). A score is the probability of that answer: within the head, times that of the question
            being of that type unless the type was given. Where the question is left unanswered, `answer` is None and
            `best_guess` what it would have been; where its image or the question itself is unlike those of training,
            `unfamiliar` says which: {"image": True, "question": False}, None for one that isn't judged. Neither key is
            there otherwise.

            What the threshold is compared with has the type's probability in it, given or not.

        Raises:
            ValueError: the vocabulary and the logits differ in size, logits that aren't finite, a question type that
                isn't one or that the model has no head for, or a promise that the calibration hasn't.
        """
        promises = Promises(self.calibration, abstain, coverage, group)
        return self.decode(self.rank(outputs, check_top_k(top_k, coverage)), question_type, promises=promises)

    def rank(self, outputs, top_k=1):
        """The best answers of each head, as tensors: all that `decode` needs, and much less than the logits.

        Returns:
            A dict with `<head>_scores` and `<head>_indices` (B, min(top_k, answers)), best first, for each head of the
            model, `question_type_scores` (B, 2) where it has two, and `unfamiliar` (B,), the codes of `foreign_parts`,
            where there are limits to what is familiar.

        Raises:
            ValueError: the vocabulary and the logits differ in size, logits that aren't finite, or no positive `top_k`.
        """
        check_top_k(top_k)
        ranked, calibration = {}, self.calibration or {}
        temperatures = calibration.get("temperatures", {})
        for name in QUESTION_TYPES:
            logits = outputs.get(f"{name}_logits")
            if logits is None:
                continue
            if name == "open_ended" and logits.shape[-1] != len(self.all_answers):
                raise ValueError(
                    f"the open-ended head has {logits.shape[-1]} answers and this processor's vocabulary "
                    f"{len(self.all_answers)}; take model and processor from the same folder"
                )
            scores = check_logits(name, logits.float() / temperatures.get(name, 1.0)).softmax(dim=-1)
            ranked[f"{name}_scores"], ranked[f"{name}_indices"] = scores.topk(min(top_k, scores.shape[-1]), dim=-1)
        if outputs.get("question_type_logits") is not None:
            logits = outputs["question_type_logits"].float() / temperatures.get("question_type", 1.0)
            ranked["question_type_scores"] = check_logits("question_type", logits).softmax(dim=-1)
        codes = foreign_codes(outputs, calibration.get("familiarity") or {})
        if codes is not None:
            ranked["unfamiliar"] = codes
        return ranked

    def decode(self, ranked, question_type=None, abstain=None, promises=None):
        """The answers of `post_process_question_answering` from what `rank` gave."""
        heads = [name for name in QUESTION_TYPES if f"{name}_scores" in ranked]
        count = len(ranked[f"{heads[0]}_scores"])
        types = self.choose_heads(ranked, heads, count, question_type)
        type_scores = [1.0] * count
        if "question_type_scores" in ranked:
            chosen = torch.tensor([QUESTION_TYPES.index(name) for name in types], dtype=torch.long)
            type_scores = ranked["question_type_scores"].cpu().gather(1, chosen[:, None])[:, 0].tolist()
        promises = promises or Promises(self.calibration, abstain)
        groups = promises.groups(count)
        unfamiliar = ranked["unfamiliar"].tolist() if "unfamiliar" in ranked else [0] * count
        results, all_answers = [None] * count, self.all_answers
        for name in heads:
            rows = [row for row in range(count) if types[row] == name]
            answers = self.binary_answers if name == "binary" else all_answers
            best = zip(ranked[f"{name}_scores"][rows].tolist(), ranked[f"{name}_indices"][rows].tolist())
            for row, (values, indices) in zip(rows, best):
                share = type_scores[row] if question_type is None else 1.0
                items = [
                    {"answer": answers[index], "score": value * share, "question_type": name}
                    for value, index in zip(values, indices)
                ]
                items = promises.applied(items, [value * type_scores[row] for value in values], name, groups[row])
                if unfamiliar[row]:
                    items = [{**item, "unfamiliar": foreign_parts(unfamiliar[row])} for item in items]
                results[row] = items
        return results

    def choose_heads(self, ranked, heads, count, question_type):
        """The head of each question."""
        if question_type is None and len(heads) == 2:
            return [QUESTION_TYPES[index] for index in ranked["question_type_scores"].argmax(dim=-1).tolist()]
        if question_type is None:
            question_type = heads[0]
        types = list(question_type) if isinstance(question_type, (list, tuple)) else [question_type] * count
        if len(types) != count or not all(name in heads for name in types):
            raise ValueError(
                f"question_type must be None, one of {', '.join(heads)}, or a list of {count} of these; "
                f"found {question_type!r}"
            )
        return types

    def without_calibration(self):
        """The same processor, for logits that its calibration doesn't hold for."""
        other = copy.copy(self)
        other.calibration = None
        return other

    def with_image_sources(self, sources):
        """The same processor, which opens images from these `ImageSources` alone.

        Raises:
            ValueError: sources that don't exist, or an image processor that opens images by rules of its own.
        """
        if not hasattr(self.image_processor, "sources"):
            found = type(self.image_processor).__name__
            raise ValueError(f"image_sources needs a DualVQAImageProcessor, found {found}")
        other = copy.copy(self)
        other.image_processor = copy.copy(self.image_processor)
        other.image_processor.sources = sources
        return other

    def check(self):
        """Makes sure that nothing is missing and every number is one.

        Raises:
            ValueError: see `processor_checks_dualvqa`.
        """
        for words in (self.answers, self.memory_answers, self.all_answers):
            check_answers(words)
        check_calibration(self.calibration)
        check_answer_rules(self.answer_rules)
        check_image_processor(self.image_processor)
        check_tokenizer(self.tokenizer)

    def check_question(self, question, cut=True):
        """Makes sure that a question can be asked.

        Args:
            cut: whether only the beginning of a long one may be read.

        Raises:
            ValueError: it isn't a text, has none, is longer than `MAX_QUESTION_CHARACTERS`, or isn't Unicode.
        """
        check_question(question)
        if not cut:
            tokens, limit = len(self(text=question, truncation=False)["input_ids"]), self.tokenizer.model_max_length
            if tokens > limit:
                raise ValueError(
                    f"expected at most {limit} tokens without truncation, found {tokens}: {question!r:.100}"
                )

    def check_model(self, model):
        """Makes sure that this is the model's processor, as far as sizes can show, and that both can be worked with.

        Raises:
            ValueError: the tokenizer knows tokens that the model doesn't, the vocabulary isn't as large as the head, or
                weights aren't finite; or see `check`.
        """
        if model.config.model_type != "dualvqa":
            raise ValueError(f"expected a DualVQA model, found a {model.config.model_type} ({type(model).__name__})")
        self.check()
        check_weights(model)
        tokens = model.get_input_embeddings().num_embeddings
        if len(self.tokenizer) > tokens:
            raise ValueError(
                f"the tokenizer has {len(self.tokenizer)} tokens and the model's text tower {tokens}; take model and "
                f"processor from the same folder, or call model.resize_token_embeddings({len(self.tokenizer)})"
            )
        if "open_ended" in model.config.heads and model.config.num_answers != len(self.answers):
            raise ValueError(
                f"the open-ended head has {model.config.num_answers} answers and the processor's vocabulary "
                f"{len(self.answers)}; take model and processor from the same folder"
            )
        further = (getattr(model.config, "memory", None) or {}).get("new_answers", 0)
        if further != len(self.memory_answers):
            raise ValueError(
                f"the model's memory knows {further} answers that the head doesn't, and the processor's memory_answers "
                f"are {len(self.memory_answers)}; take model and processor from the same folder"
            )
        tell_missing_familiarity(self.calibration, model.config)

    @property
    def model_input_names(self):
        return ["input_ids", "attention_mask", "pixel_values", "image_index", "question_index"]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """As in transformers; without `trust_remote_code` nobody is asked about code that isn't needed here.

        Raises:
            ValueError: a file is missing or damaged, or holds what no processor can work with.
        """
        kwargs.setdefault("trust_remote_code", False)
        check_files(Path(pretrained_model_name_or_path, kwargs.get("subfolder", "")))
        processor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        processor.check()
        return processor

    def to_dict(self):
        """As in transformers; nothing about a calibration, a memory or rules that aren't there."""
        fields, optional = super().to_dict(), ("calibration", "memory_answers", "answer_rules")
        return {name: value for name, value in fields.items() if name not in optional or value}

    def save_pretrained(self, save_directory, **kwargs):
        """As in transformers; a model card beside it learns of the processor's Python files."""
        # How the tokenizer was loaded and last called is nothing to keep: with it no two saves would be the same.
        for name in ("is_local", "local_files_only", "dtype"):
            self.tokenizer.init_kwargs.pop(name, None)
        with tokenizing:
            if self.tokenizer.is_fast:
                self.tokenizer.backend_tokenizer.no_padding()
                self.tokenizer.backend_tokenizer.no_truncation()
            saved = super().save_pretrained(save_directory, **kwargs)
        list_code(save_directory)
        return saved

    def _upload_modified_files(self, working_dir, *args, **kwargs):
        list_code(working_dir)
        return super()._upload_modified_files(working_dir, *args, **kwargs)


DualVQAProcessor.register_for_auto_class()

__all__ = ["DualVQAProcessor"]

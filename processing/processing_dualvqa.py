"""The processor: questions and images in, tensors out; logits in, answers out."""

import hashlib
import re
from pathlib import Path

from transformers.processing_utils import ProcessingKwargs, ProcessorMixin

from .image_processing_dualvqa import DualVQAImageProcessor  # noqa: F401 - a saved folder ships it

BINARY_ANSWERS = ("no", "yes")
QUESTION_TYPES = ("binary", "open_ended")
CODE_TABLE = "| file | SHA-256 |\n|---|---|\n"
CODE_ROW = re.compile(r"^\| `(\w+\.py)` \| `([0-9a-f]{64})` \|\n", re.MULTILINE)


class DualVQAProcessorKwargs(ProcessingKwargs, total=False):
    _defaults = {"text_kwargs": {"padding": True, "truncation": True, "return_token_type_ids": False}}


class DualVQAProcessor(ProcessorMixin):
    """Image processor, tokenizer and answer vocabulary in one.

    Args:
        image_processor: [`DualVQAImageProcessor`] or any other image processor.
        tokenizer: a transformers tokenizer.
        answers: the N answers of the open-ended head, in the order of its logits.
    """

    valid_processor_kwargs = DualVQAProcessorKwargs

    def __init__(self, image_processor=None, tokenizer=None, answers=None, chat_template=None):
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self.answers = list(answers or [])

    def __call__(self, images=None, text=None, **kwargs):
        """Encodes questions and images.

        Args:
            images, text: one or a list of each; either may be left out.
            **kwargs: options of the tokenizer and the image processor, as everywhere in transformers.

        Returns:
            BatchFeature with `input_ids` and `attention_mask` (B, T), `pixel_values` (U, 3, H, W).

        Raises:
            TypeError: an option that neither knows.
        """
        kinds = self.valid_processor_kwargs.__annotations__
        own = getattr(getattr(self, "image_processor", None), "valid_kwargs", None)
        known = {
            "text_kwargs": set(kinds["text_kwargs"].__annotations__),
            "images_kwargs": {*kinds["images_kwargs"].__annotations__, *getattr(own, "__annotations__", {})},
        }
        unknown = set(kwargs).difference(kinds, *known.values())
        unknown = unknown.union(*(set(kwargs.get(kind, {})) - names for kind, names in known.items()))
        if unknown:
            raise TypeError(f"unknown options: {', '.join(sorted(unknown))}; see the tokenizer's and image processor's")
        return super().__call__(images=images, text=text, **kwargs)

    def post_process_question_answering(self, outputs, top_k=1, question_type=None):
        """Turns logits into answers; the only place where that is done.

        Args:
            outputs: what the model returned, or a dict with its logits.
            top_k: how many answers per question at most.
            question_type: None lets the model choose the head of each question; "binary" or "open_ended", or a list
                with one of them per question, chooses for it.

        Returns:
            For each question a list of at most `top_k` dicts, best first: `answer`, `score` and `question_type` (whose
            head answered). A score is the probability of that answer: within the head, times that of the question
            being of that type unless the type was given.

        Raises:
            ValueError: the vocabulary and the logits differ in size, or a question type that isn't one or that the
                model has no head for.
        """
        return self.decode(self.rank(outputs, top_k), question_type)

    def rank(self, outputs, top_k=1):
        """The best answers of each head, as tensors: all that `decode` needs, and much less than the logits.

        Returns:
            A dict with `<head>_scores` and `<head>_indices` (B, min(top_k, answers)), best first, for each head of the
            model, and `question_type_scores` (B, 2) where it has two.

        Raises:
            ValueError: the vocabulary and the logits differ in size.
        """
        ranked = {}
        for name in QUESTION_TYPES:
            logits = outputs.get(f"{name}_logits")
            if logits is None:
                continue
            if name == "open_ended" and logits.shape[-1] != len(self.answers):
                raise ValueError(
                    f"the open-ended head has {logits.shape[-1]} answers and this processor's vocabulary "
                    f"{len(self.answers)}; take model and processor from the same folder"
                )
            scores = logits.float().softmax(dim=-1)
            ranked[f"{name}_scores"], ranked[f"{name}_indices"] = scores.topk(min(top_k, scores.shape[-1]), dim=-1)
        if outputs.get("question_type_logits") is not None:
            ranked["question_type_scores"] = outputs["question_type_logits"].float().softmax(dim=-1)
        return ranked

    def decode(self, ranked, question_type=None):
        """The answers of `post_process_question_answering` from what `rank` gave."""
        heads = [name for name in QUESTION_TYPES if f"{name}_scores" in ranked]
        count = len(ranked[f"{heads[0]}_scores"])
        types, type_scores = self.choose_heads(ranked, heads, count, question_type)
        results = [None] * count
        for name in heads:
            rows = [row for row in range(count) if types[row] == name]
            answers = BINARY_ANSWERS if name == "binary" else self.answers
            best = zip(ranked[f"{name}_scores"][rows].tolist(), ranked[f"{name}_indices"][rows].tolist())
            for row, (values, indices) in zip(rows, best):
                results[row] = [
                    {"answer": answers[index], "score": value * type_scores[row], "question_type": name}
                    for value, index in zip(values, indices)
                ]
        return results

    def choose_heads(self, ranked, heads, count, question_type):
        """The head of each question, and the probability that it is the right one."""
        if question_type is None and len(heads) == 2:
            scores, indices = ranked["question_type_scores"].max(dim=-1)
            return [QUESTION_TYPES[index] for index in indices.tolist()], scores.tolist()
        if question_type is None:
            question_type = heads[0]
        types = [question_type] * count if isinstance(question_type, str) else list(question_type)
        if len(types) != count or not set(types) <= set(heads):
            raise ValueError(
                f"question_type must be None, one of {', '.join(heads)}, or a list of {count} of these; "
                f"found {question_type!r}"
            )
        return types, [1.0] * count

    def check_model(self, model):
        """Makes sure that this is the model's processor, as far as sizes can tell.

        Raises:
            ValueError: the tokenizer knows tokens that the model doesn't, or the vocabulary isn't as large as the head.
        """
        if model.config.model_type != "dualvqa":
            raise ValueError(f"expected a DualVQA model, found a {model.config.model_type} ({type(model).__name__})")
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

    @property
    def model_input_names(self):
        return ["input_ids", "attention_mask", "pixel_values", "image_index", "question_index"]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """As in transformers; without `trust_remote_code` nobody is asked about code that isn't needed here."""
        kwargs.setdefault("trust_remote_code", False)
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    def save_pretrained(self, save_directory, **kwargs):
        """As in transformers; a model card beside it learns of the processor's Python files."""
        # How the tokenizer was loaded and last called is nothing to keep: with it no two saves would be the same.
        for name in ("is_local", "local_files_only", "dtype"):
            self.tokenizer.init_kwargs.pop(name, None)
        if self.tokenizer.is_fast:
            self.tokenizer.backend_tokenizer.no_padding()
            self.tokenizer.backend_tokenizer.no_truncation()
        saved = super().save_pretrained(save_directory, **kwargs)
        list_code(save_directory)
        return saved

    def _upload_modified_files(self, working_dir, *args, **kwargs):
        list_code(working_dir)
        return super()._upload_modified_files(working_dir, *args, **kwargs)


def list_code(folder):
    """Brings the table of Python files in the folder's README.md up to date; `model_card_dualvqa` has its twin.

    There are two because model and processor are saved in any order, and neither side's files may need the other's.
    """
    path = Path(folder, "README.md")
    head, table, tail = (path.read_text(encoding="utf-8") if path.exists() else "").partition(CODE_TABLE)
    if table:
        hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in Path(folder).glob("*.py")}
        listed = {**dict(CODE_ROW.findall(tail)), **hashes}
        rows = "".join(f"| `{name}` | `{digest}` |\n" for name, digest in sorted(listed.items()))
        path.write_text(head + table + rows + CODE_ROW.sub("", tail), encoding="utf-8", newline="\n")


def train_tokenizer(questions, vocab_size=8000, model_max_length=64):
    """A lower-case WordPiece tokenizer learned from `questions`, for text towers that start from scratch.

    Returns:
        A transformers `BertTokenizer` of at most `vocab_size` tokens, the same every time for the same questions.
    """
    from tokenizers.implementations import BertWordPieceTokenizer
    from transformers import BertTokenizer

    tokenizer = BertWordPieceTokenizer(lowercase=True)
    questions = sorted(set(questions))
    # The trainer meets the letters inside words in an order that changes from run to run, and with it the choice among
    # equally frequent pairs. Named beforehand, they have an order.
    letters = sorted(set("".join(map(tokenizer.normalizer.normalize_str, questions))) - {" "})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    named = special + [f"##{letter}" for letter in letters]
    tokenizer.train_from_iterator(questions, vocab_size, min_frequency=1, special_tokens=named, show_progress=False)
    return BertTokenizer(vocab=tokenizer.get_vocab(), do_lower_case=True, model_max_length=model_max_length)


DualVQAProcessor.register_for_auto_class()

__all__ = ["DualVQAProcessor"]

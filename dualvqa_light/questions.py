"""Questions -> token ids, by the tokenizer file of an exported folder."""

import os

import numpy as np
from tokenizers import Tokenizer

from .processor_checks_dualvqa import check_question


class Questions:
    """
    Args:
        folder: the exported folder.
        settings: the manifest's `question`: `tokenizer`, its file; `max_tokens`, the longest that the text tower reads
            or None; `padding_id`, and `padding_side`, "left" or "right".
    """

    def __init__(self, folder, settings):
        self.settings = settings
        path = os.path.join(folder, settings["tokenizer"])
        try:
            self.tokenizer = Tokenizer.from_file(path)
        except Exception as error:  # tokenizers raises nothing more exact
            raise ValueError(f"{path} is damaged ({error}); copy the folder again, or export it again") from error
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        if settings["max_tokens"]:
            self.tokenizer.enable_truncation(settings["max_tokens"], direction=settings["truncation_side"])

    def check(self, question, cut=True):
        """Makes sure that a question can be asked.

        Args:
            cut: whether only the beginning of a long one may be read.

        Raises:
            ValueError: it is no text, has none, is too long, or isn't Unicode.
        """
        check_question(question)
        if not cut and (rest := (read := self.tokenizer.encode(question)).overflowing):
            found = len(read.ids) + sum(part.special_tokens_mask.count(0) for part in rest)
            raise ValueError(
                f"expected at most {self.settings['max_tokens']} tokens without truncation, found {found}: "
                f"{question!r:.100}"
            )

    def encode(self, questions):
        """The token ids of each question, as tuples."""
        return [tuple(encoding.ids) for encoding in self.tokenizer.encode_batch(questions)]

    def offsets(self, question):
        """(start, end) in the question of each token that is read; (0, 0) of one that isn't of its text."""
        return self.tokenizer.encode(question).offsets

    def pad(self, ids):
        """Tuples of token ids -> ids and attention mask, int64 (V, T)."""
        longest = max(map(len, ids))
        padded = np.full((len(ids), longest), self.settings["padding_id"], np.int64)
        mask = np.zeros((len(ids), longest), np.int64)
        for row, values in enumerate(ids):
            real = slice(longest - len(values), None) if self.settings["padding_side"] == "left" else slice(len(values))
            padded[row, real], mask[row, real] = values, 1
        return padded, mask

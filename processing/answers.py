"""The vocabulary of the open-ended head."""

from collections import Counter

from .processing_dualvqa import BINARY_ANSWERS
from .vqa_accuracy.answer_strings import answer_score, consensus, normalise_answer, question_type_of

__all__ = ["AnswerVocabulary", "answer_score", "consensus", "normalise_answer", "question_type_of"]

IGNORE_INDEX = -100


class AnswerVocabulary:
    """The answers of the open-ended head, most frequent first. It has no class for unknown answers.

    Args:
        answers: different normalised answers.
    """

    def __init__(self, answers):
        self.answers = list(answers)
        self.index = {answer: index for index, answer in enumerate(self.answers)}

    @classmethod
    def from_training_answers(cls, answers, min_frequency=1, max_size=None, with_binary=False):
        """Collects the open-ended answers of the training part.

        Args:
            answers: one normalised answer per training question; yes and no are left to their own head.
            with_binary: yes and no are answers among the others, for a model with one head for all questions.
            min_frequency: how often an answer must occur.
            max_size: how many answers are kept at most, the most frequent ones; ties in alphabetical order.

        Raises:
            ValueError: nothing is left.
        """
        counts = Counter(answer for answer in answers if with_binary or question_type_of(answer) == 1)
        kept = sorted(
            (answer for answer, count in counts.items() if count >= min_frequency),
            key=lambda answer: (-counts[answer], answer),
        )[:max_size]
        if not kept:
            raise ValueError(
                f"expected open-ended training answers that occur at least {min_frequency} times, found none among "
                f"{len(counts)} different ones; lower the threshold, or train a model with heads=['binary']"
            )
        return cls(kept)

    def __len__(self):
        return len(self.answers)

    def encode(self, answer):
        """Index of a normalised answer, or -100 if it is not in the vocabulary."""
        return self.index.get(answer, IGNORE_INDEX)

    def labels(self, answers):
        """`<head>_labels` of normalised answers, a list for each head and one for the router; -100 for none."""
        types = [question_type_of(answer) for answer in answers]
        return {
            "binary_labels": [BINARY_ANSWERS.index(a) if t == 0 else IGNORE_INDEX for a, t in zip(answers, types)],
            # A vocabulary with yes and no is that of a model with one head for all questions.
            "open_ended_labels": [self.encode(answer) for answer in answers],
            "question_type_labels": types,
        }

    def coverage(self, answers):
        """Share of the open-ended ones among normalised `answers` that the vocabulary has: no accuracy can be higher.

        None where there is no open-ended answer.
        """
        open_ended = [answer for answer in answers if question_type_of(answer) == 1]
        return sum(answer in self.index for answer in open_ended) / len(open_ended) if open_ended else None

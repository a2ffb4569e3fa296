"""What several people answered as soft labels: each answer with its share of the people, or its VQA score."""

from collections import Counter

import torch

from .answers import IGNORE_INDEX, AnswerVocabulary, as_list, question_type_of
from .processing_dualvqa import BINARY_ANSWERS
from .vqa_accuracy.answer_strings import score_of_matches

SOFT_SCORES = ("vqa", "share")


SCORES = {"vqa": score_of_matches, "share": lambda matches, people: matches / people}


class SoftLabels:
    """The labels of rows that several people answered; a part of a [`VQACollator`]'s batch, in place of hard labels.

    A question is of the type that most people answered it as, and learned by that type's head: of yes/no questions
    the label is the share of each of the two among those who said yes or no, of open-ended ones every answer of the
    vocabulary with its own score (Teney et al. 2018, "Tips and Tricks for Visual Question Answering: Learnings from
    the 2017 Challenge"), so that several can be right at once.

    Args:
        processor: its answers are the vocabulary.
        score: "vqa" for the official VQA score, "share" for the share of the people.
    """

    def __init__(self, processor, score="vqa"):
        vocabulary = AnswerVocabulary.of(processor)
        self.index, self.form, self.score = vocabulary.index, vocabulary.rules.form, SCORES[score]
        self.single_head = not self.index.keys().isdisjoint(BINARY_ANSWERS)  # yes and no are answers among the others

    def batch(self, rows):
        """The `labels` of canonical rows; {} where they have no answers."""
        return self.labels([row["answer"] for row in rows]) if "answer" in rows[0] else {}

    def labels(self, answers):
        """`binary_labels` (B, 2), `open_ended_labels` (B, N) and `question_type_labels` (B,) of several people's
        answers to each question; the first two are -100 where their head learns nothing from a question."""
        votes = [Counter(map(self.form, as_list(people))) for people in answers]
        types = [question_type_of(found.most_common(1)[0][0]) for found in votes]
        labels = {"binary_labels": torch.full((len(votes), 2), float(IGNORE_INDEX))}
        if self.index:
            labels["open_ended_labels"] = torch.full((len(votes), len(self.index)), float(IGNORE_INDEX))
        for row, (found, kind) in enumerate(zip(votes, types)):
            if kind == 0:
                said = torch.tensor([float(found[answer]) for answer in BINARY_ANSWERS])
                labels["binary_labels"][row] = said / said.sum()
            known = {self.index[form]: count for form, count in found.items() if form in self.index}
            if known and (kind == 1 or self.single_head):
                labels["open_ended_labels"][row] = 0
                for index, count in known.items():
                    labels["open_ended_labels"][row, index] = self.score(count, found.total())
        return {**labels, "question_type_labels": torch.tensor(types)}

"""Scores over answer strings. Class indices are never compared."""

from collections import defaultdict

import datasets
import evaluate
import numpy as np
from sklearn.metrics import f1_score

from .answer_strings import answer_score, as_list, consensus, normalise_answer, question_type_of

TYPES = ("binary", "open_ended")
DESCRIPTION = """Accuracy of visual question answering over normalised answer strings, in all and by question type: a
question is binary when the answer that most people gave is yes or no, else open-ended."""
INPUTS = """
Args:
    predictions: list of strings.
    references: for each question a string, or a list of strings, the answers that several people gave.
Returns:
    accuracy, binary_accuracy, open_ended_accuracy: shares in [0, 1]; a type without questions is left out.
    macro_f1, binary_macro_f1, open_ended_macro_f1: unweighted mean of F1 over the answers that occur in the references.
    samples, binary_samples, open_ended_samples: numbers of questions.
"""
CITATION = """@inproceedings{antol2015vqa, title={{VQA}: Visual Question Answering}, booktitle={ICCV}, year={2015},
author={Antol, Stanislaw and Agrawal, Aishwarya and Lu, Jiasen and Mitchell, Margaret and Batra, Dhruv and
Zitnick, C. Lawrence and Parikh, Devi}}"""


class VQAAccuracy(evaluate.Metric):
    """The project's metric; see `INPUTS` for what it takes and gives."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
        )

    # A column that mixes strings and lists would become strings without a word.
    def add(self, *, prediction=None, reference=None, **kwargs):
        """Takes one question's prediction and reference."""
        super().add(prediction=prediction, reference=as_list(reference), **kwargs)

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """Takes several questions' predictions and references."""
        super().add_batch(predictions=predictions, references=list(map(as_list, references)), **kwargs)

    def _compute(self, predictions, references):
        predictions = [normalise_answer(answer) for answer in predictions]
        answers = [consensus(people) for people in references]
        scores = [answer_score(answer, people) for answer, people in zip(predictions, references)]
        rows = defaultdict(list)
        for row, answer in enumerate(answers):
            rows[""].append(row)
            rows[TYPES[question_type_of(answer)] + "_"].append(row)
        results = {}
        for prefix, chosen in rows.items():
            truth = [answers[row] for row in chosen]
            guesses = [predictions[row] for row in chosen]
            results[f"{prefix}accuracy"] = float(np.mean([scores[row] for row in chosen]))
            results[f"{prefix}macro_f1"] = float(
                f1_score(truth, guesses, labels=sorted(set(truth)), average="macro", zero_division=0)
            )
            results[f"{prefix}samples"] = len(chosen)
        return results

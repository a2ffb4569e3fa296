"""Scores over answer strings. Class indices are never compared."""

from collections import defaultdict

import datasets
import evaluate
import numpy as np
from sklearn.metrics import f1_score

from .answer_strings import answer_text, as_list, question_type_of
from .languages import LANGUAGES
from .normal_form import normal_form
from .official import official_form
from .rules import AnswerRules

TAKEN_ALONG = (LANGUAGES, normal_form, official_form)  # `evaluate.load` copies what this file imports, no more
TYPES = ("binary", "open_ended")
DESCRIPTION = """Accuracy of visual question answering over answer strings in their normal form, in all and by question
type: a question is binary when the answer that most people gave is yes or no, else open-ended. Of several people's
answers the score is min(matches / 3, 1), or with metric="vqa" the official one of the VQA evaluation over its own
forms, the average over all but one of the people."""
INPUTS = """
Args:
    predictions: list of strings; numbers are read as text, and None is a question left unanswered, which scores 0.
    references: for each question a string, or a list of strings, the answers that several people gave. Of those some
        may be None or empty, who said nothing; a question that nobody answered is refused.
    metric: "exact", or "vqa" for the official score.
    yes_answers, no_answers: lists of words that mean yes and no, besides these two.
    answer_language: whose articles and number words make no difference: "en", "de", "zh" and so on, or "none".
Returns:
    accuracy, binary_accuracy, open_ended_accuracy: shares in [0, 1]; a type without questions is left out.
    macro_f1, binary_macro_f1, open_ended_macro_f1: unweighted mean of F1 over the answers that most people gave, in the
        form that the metric compares.
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

    # Arrow would make a column of strings and lists, or of strings and numbers, strings without a word.
    def add(self, *, prediction=None, reference=None, **kwargs):
        """Takes one question's prediction and reference."""
        super().add(prediction=prediction_of(prediction, 0), reference=references_of(reference, 0), **kwargs)

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """Takes several questions' predictions and references."""
        predictions = [prediction_of(answer, row) for row, answer in enumerate(predictions)]
        references = [references_of(people, row) for row, people in enumerate(references)]
        super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(self, predictions, references, **rules):
        rules = AnswerRules(**rules)
        answers = list(map(rules.consensus, references))
        scores = [rules.score(answer, people) for answer, people in zip(predictions, references)]
        predictions, truths = list(map(rules.compared, predictions)), answers
        if rules.metric != "exact":  # whose forms are those of the types
            truths = [rules.compared(rules.as_written(people)) for people in references]
        rows = defaultdict(list)
        for row, answer in enumerate(answers):
            rows[""].append(row)
            rows[TYPES[question_type_of(answer)] + "_"].append(row)
        results = {}
        for prefix, chosen in rows.items():
            truth = [truths[row] for row in chosen]
            guesses = [predictions[row] for row in chosen]
            results[f"{prefix}accuracy"] = float(np.mean([scores[row] for row in chosen]))
            results[f"{prefix}macro_f1"] = float(
                f1_score(truth, guesses, labels=sorted(set(truth)), average="macro", zero_division=0)
            )
            results[f"{prefix}samples"] = len(chosen)
        return results


def prediction_of(answer, row):
    """A prediction as text, the empty one, which no reference is, for a question left unanswered."""
    try:
        return answer_text(answer) or ""
    except ValueError as error:
        raise ValueError(f"row {row + 1} of the predictions (predictions[{row}]): {error}") from error


def references_of(answers, row):
    """The references of one question as a list of texts."""
    place = f"row {row + 1} of the references (references[{row}])"
    try:
        people = as_list(answers)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    if not people:
        raise ValueError(f"{place} has no answer, found {answers!r}; leave out questions that nobody answered")
    return people

"""The figures of an evaluation: the metric over answer strings, for all who answer."""

import copy
import difflib
from collections import Counter, defaultdict

import numpy as np

from .answers import AnswerRules, AnswerVocabulary, answer_score, question_type_of
from .outputs import joined, named_logits, output_chunks
from .own_scores import check_people, own_scores, read_columns
from .predictions import groups_of_rows
from .processing_dualvqa import QUESTION_TYPES
from .vqa_accuracy.vqa_accuracy import VQAAccuracy, references_of

__all__ = ["AnswerMetrics", "VQAAccuracy", "answer_score", "majority_answers"]


def majority_answers(answers):
    """The most frequent normalised answer of each question type among training answers."""
    counts = defaultdict(Counter)
    for answer in answers:
        counts[QUESTION_TYPES[question_type_of(answer)]][answer] += 1
    return {name: counter.most_common(1)[0][0] for name, counter in counts.items()}


BESIDES = (
    "majority_",
    "calibration_",
    "abstention_",
    "coverage",
    "unanswerable_",
    "gqa_",
)  # figures of some evaluations only


def figure_names(heads=QUESTION_TYPES, types=QUESTION_TYPES):
    """What an evaluation gives that a best state can be chosen by, without the Trainer's prefix.

    Args:
        heads: those of the model.
        types: question types of the rows that are evaluated.
    """
    losses = ["loss", *(f"{head}_loss" for head in heads), *(["question_type_loss"] if len(heads) == 2 else [])]
    scores = [f"{prefix}{name}" for prefix in ("", *(f"{t}_" for t in types)) for name in ("accuracy", "macro_f1")]
    router = ["router_accuracy"] if len(heads) == 2 else []
    return losses + [f"{kind}_{score}" for kind in ("routed", "oracle") for score in scores] + router


def check_best_metric(metric, heads=QUESTION_TYPES, types=QUESTION_TYPES):
    """
    Args:
        metric: `metric_for_best_model`, or None.

    Raises:
        ValueError: an evaluation has no figure of that name. The message has those that there are.
    """
    names = figure_names(heads, types)
    name = (metric or "loss").removeprefix("eval_")
    if name not in names and not name.startswith(BESIDES):
        close = difflib.get_close_matches(name, names, n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"metric_for_best_model must be one of {', '.join(names)}; found {metric!r}{hint}")


class AnswerMetrics:
    """`compute_metrics` of the Trainer for one evaluation dataset, whose rows come in order.

    `DualVQATrainer` scores every dataset with its own answers: see `for_rows`. Other trainers score the answers that
    are given here, and predictions that come with labels of other rows are refused.

    Figures, each as in [`VQAAccuracy`]: `oracle_*` with the head chosen by the true question type, `routed_*` with the
    head that the model chooses, `majority_*` for always giving the training part's most frequent answer of the type;
    besides, of a model with two heads, `router_accuracy`, and `coverage`, the most that its open-ended accuracy can be
    with the answers that it knows.

    All of these score best guesses, whatever the processor leaves unanswered.

    Args:
        processor: decodes the logits.
        answers: for each row a string, or a list of strings; gaps are left out.
        majority: as `majority_answers` gives it, or None where the training answers are not known.
        further: further figures: called with the processor, the logits by name and each row's answers; and where the
            processor's promises were made by a column of the rows, with `groups`, see `groups_of_rows`. How true a
            calibrated processor's scores are: `dualvqa.trust.metrics.score_figures`.

    Raises:
        ValueError: a row that nobody answered.
    """

    def __init__(self, processor, answers, majority=None, further=None):
        self.processor, self.rules = processor, AnswerRules.of(processor)
        self.further = further
        self.majority = majority
        self.metric = VQAAccuracy(keep_in_memory=True)
        self.groups = None
        self.own_columns = {}  # what the metric reads besides: see `own_scores`
        self.set_references([references_of(people, row) for row, people in enumerate(answers)])

    def set_references(self, references):
        check_people(self.rules.metric, references, "the rows that are scored")
        self.references = references
        self.answers = [self.rules.consensus(people) for people in references]
        self.types = [QUESTION_TYPES[question_type_of(answer)] for answer in self.answers]

    def for_rows(self, rows):
        """These metrics with the answers of other rows.

        Args:
            rows: canonical rows. Of others, such as batches that are ready made, the answers are not known: they are
                taken to be those that are given, and the labels show when they are not.

        Raises:
            ValueError: rows without answers.
        """
        columns = getattr(rows, "column_names", None)
        ready_made = not columns or any(name.endswith("_labels") for name in columns)
        if ready_made or not hasattr(rows, "__getitem__"):  # or a stream
            return self
        if "answer" not in columns:
            raise ValueError(
                f"the rows to be evaluated have no answers to compare with: expected a column 'answer', found "
                f"{', '.join(columns)}; use predict, or give rows with answers"
            )
        references = [references_of(people, row) for row, people in enumerate(rows["answer"][:])]
        own_columns = read_columns(self.rules.metric, rows, "the rows that are evaluated")
        groups = groups_of_rows(rows, self.processor.calibration)
        if (references, own_columns, groups) == (self.references, self.own_columns, self.groups):
            return self
        other = copy.copy(self)
        other.own_columns, other.groups = own_columns, groups
        other.set_references(references)
        return other

    def check_labels(self, label_ids):
        """Refuses labels of other rows.

        Args:
            label_ids: (rows,) array, or a tuple of some, each the labels of a head or of the router; or None.

        Raises:
            ValueError: as said.
        """
        own = [np.asarray(labels) for labels in AnswerVocabulary.of(self.processor).labels(self.answers).values()]
        given = label_ids if isinstance(label_ids, (tuple, list)) else [label_ids]
        for labels in map(np.asarray, (labels for labels in given if labels is not None)):
            differing = [np.flatnonzero(labels != other) for other in own if labels.shape == other.shape]
            if differing and all(map(len, differing)):
                closest = min(differing, key=len)
                raise ValueError(
                    f"the predictions are for other rows than those whose answers are scored: the labels of "
                    f"{len(closest)} of {len(labels)} rows differ, first row {closest[0]}, whose answer should be "
                    f"{self.answers[closest[0]]!r}. Make AnswerMetrics with the answers of the rows that are evaluated"
                )

    def score(self, predictions, prefix):
        results = self.metric.compute(predictions=predictions, references=self.references, **(self.rules.saved() or {}))
        return {f"{prefix}_{name}": value for name, value in results.items() if not name.endswith("samples")}

    def __call__(self, prediction):
        outputs = named_logits(prediction.predictions, self.processor)
        if len(next(iter(outputs.values()))) != len(self.answers):
            raise ValueError(
                f"expected predictions for {len(self.answers)} rows, found {len(next(iter(outputs.values())))}"
            )
        self.check_labels(prediction.label_ids)
        decode = self.processor.decode
        ranked = joined((self.processor.rank(chunk) for _, chunk in output_chunks(outputs)), len(self.answers))
        heads = [name for name in QUESTION_TYPES if f"{name}_logits" in outputs]
        oracle_types = [name if name in heads else heads[0] for name in self.types]
        routed = [best[0] for best in decode(ranked, abstain=False)]
        oracle = [best[0] for best in decode(ranked, oracle_types, abstain=False)]
        results = {
            **self.score([best["answer"] for best in routed], "routed"),
            **self.score([best["answer"] for best in oracle], "oracle"),
        }
        if len(heads) == 2:
            right = [best["question_type"] == name for best, name in zip(routed, self.types)]
            results["router_accuracy"] = float(np.mean(right))
        if self.own_columns:
            answers = [best["answer"] for best in routed]
            results |= own_scores(self.rules, self.own_columns, self.processor, outputs, answers, self.references)
        if self.further is not None:
            groups = {} if self.groups is None else {"groups": self.groups}
            results |= self.further(self.processor, outputs, self.references, **groups)
        if self.majority:
            results |= self.score([self.majority.get(name, "") for name in self.types], "majority")
        coverage = AnswerVocabulary.of(self.processor, memory=True).coverage(self.references, "binary" in heads)
        return results if coverage is None else {**results, "coverage": coverage}

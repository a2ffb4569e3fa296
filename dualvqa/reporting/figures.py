"""The figures of a report, as a plain dict, from the results of one part."""

from collections import Counter

import numpy as np

from dualvqa.trust.reliability import (
    area_under_risk_coverage,
    expected_calibration_error,
    reliability_bins,
    risk_coverage,
)
from processing.answers import Writings
from processing.vqa_accuracy.rules import ENGLISH

from .results import MODEL
from .statistics import ImageBootstrap

TYPES = ("all", "binary", "open_ended")
MOST_ANSWERS = 10  # rows of a confusion matrix that have an answer of their own
MOST_SAID = 2  # more columns of it, for what a model says that is seldom right
MOST_VALUES = 20  # of a column
KNOWN_COLUMNS = ("answer_type", "question_type", "organ", "image_organ", "modality", "content_type", "phrase_type")
CANONICAL = {"image", "question", "answer", "image_key", "row", "row_place"}
CURVE_POINTS = 200
WORST = 12
SAME_IMAGE = "copied_same_image"
ALONE = "heads_routed"  # answers without the memory
OTHER, OUTSIDE = "other", "not in the vocabulary"


def choose_columns(parts, asked=None):
    """The columns that results are shown by: those asked for, or those that look like kinds of questions.

    That is a known name, or strings that are few enough to be kinds: 2 to `MOST_VALUES` values.

    Args:
        parts: name -> canonical Dataset, those that are evaluated.
        asked: names, or None.

    Raises:
        ValueError: a column that is asked for and that no part has.
    """
    own = {name: rows for rows in parts.values() for name in rows.column_names if name not in CANONICAL}
    if asked:
        for name in asked:
            if name not in own:
                there = ", ".join(own) or "none besides image, question and answer"
                raise ValueError(f"--report_columns: no evaluated part has a column {name!r}; there are {there}")
        return list(asked)
    return [name for name, rows in own.items() if has_kinds(rows, name)]


def has_kinds(rows, name):
    """Whether a column's values look like kinds of questions."""
    strings = getattr(rows.features[name], "dtype", None) in ("string", "large_string")
    if name not in KNOWN_COLUMNS and not strings:
        return False
    different = len({str(value) for value in rows[name][:]})
    return different > 1 and (name in KNOWN_COLUMNS or different <= min(MOST_VALUES, len(rows) / 2))


def part_figures(results, heads, leakage=None, rules=ENGLISH):
    """All figures of one part.

    Args:
        results: see `results`.
        heads: those of the model.
        leakage: what `leakage_report` gives, or None where the training part isn't known.
        rules: how answers are compared, [`AnswerRules`].

    Returns:
        A dict that JSON can hold; a figure with uncertainty is a dict `value`, `low`, `high`, and None is what there is
        nothing to compute from.
    """
    groups = {name: [r for r in results if name in ("all", r["type"])] for name in TYPES}
    groups = {name: Group(chosen, rules) for name, chosen in groups.items() if chosen}
    answerers = [name for name in results[0]["answers"] if name != SAME_IMAGE]
    return {
        "types": {name: group.size for name, group in groups.items()},
        "coverage": {name: group.coverage for name, group in groups.items()},
        "accuracy": {a: {name: group.accuracy(a) for name, group in groups.items()} for a in answerers},
        "macro_f1": {a: {name: group.macro_f1(a) for name, group in groups.items()} for a in answerers},
        "differences": {
            name: {kind: group.difference(name, f"blind_{name}") for kind, group in groups.items()}
            for name in MODEL
            if f"blind_{name}" in answerers
        },
        "memory_difference": {kind: group.difference("routed", ALONE) for kind, group in groups.items()}
        if ALONE in answerers
        else None,
        "router_accuracy": groups["all"].router_accuracy() if len(heads) == 2 else None,
        "auc": auc(groups.get("binary"), heads),
        "leakage": leakage,
        "same_image": same_image(results),
        "confusion": {name: confusion(groups, name) for name in MODEL},
        "columns": {name: by_value(results, name, answerers) for name in results[0]["columns"]},
        "calibration": {name: {kind: calibration(group, name) for kind, group in groups.items()} for name in MODEL},
        "worst": worst_errors(results),
    }


class Group:
    """Some of the results, and their images' bootstrap."""

    def __init__(self, results, rules=ENGLISH):
        self.results, self.rules = results, rules
        self.images = ImageBootstrap([result["image"] for result in results])
        self.size = {"questions": len(results), "images": self.images.images}
        self.coverage = float(np.mean([result["coverage"] for result in results]))

    def of(self, answerer, field="correct"):
        """(n,) a field of an answerer's answers; by default how right they are."""
        return np.array([result["answers"][answerer][field] for result in self.results])

    def accuracy(self, answerer):
        return self.images.mean(self.of(answerer))

    def macro_f1(self, answerer):
        given = list(map(self.rules.compared, self.of(answerer, "answer")))
        written = [result.get("written", result["expected"]) for result in self.results]
        return self.images.macro_f1(list(map(self.rules.compared, written)), given)

    def difference(self, first, second):
        """By how much the first is more often right than the second, on the same questions."""
        return self.images.mean(self.of(first) - self.of(second))

    def router_accuracy(self):
        return self.images.mean(self.of("routed", "head") == np.array([result["type"] for result in self.results]))


def auc(group, heads):
    """Area under the ROC curve of the probability of yes, over the yes/no questions; `reason` where there is none."""
    answers = [result["expected"] for result in group.results] if group else []
    reason = None
    if "binary" not in heads:
        reason = "the model has no yes/no head"
    elif not answers:
        reason = "there are no yes/no questions"
    elif len(set(answers)) == 1:
        reason = f"all {len(answers)} yes/no questions have the answer {answers[0]}"
    if reason:
        return {"value": None, "low": None, "high": None, "reason": reason}
    scores = [result["probability_of_yes"] for result in group.results]
    return group.images.auc([int(answer == "yes") for answer in answers], scores)


def same_image(results):
    """Copying among training questions about the same image, and the model, on the questions where that can be done."""
    seen = [result for result in results if SAME_IMAGE in result["answers"]]
    if not seen:
        return None
    group = Group(seen)
    return {**group.size, "accuracy": {name: group.accuracy(name) for name in (*MODEL, "copied", SAME_IMAGE)}}


def confusion(groups, answerer):
    """Tables of counts, expected answer by answer given: head -> `expected`, `given` (labels) and `counts`."""
    tables = {}
    if "binary" in groups:
        tables["binary"] = table(groups["binary"], answerer, ["yes", "no"], ["yes", "no"])
    if "open_ended" in groups:
        group = groups["open_ended"]
        chosen = group.results
        counts = Counter(result["expected"] for result in chosen if result["known"])
        frequent = sorted(counts, key=lambda answer: (-counts[answer], answer))
        if len(frequent) > MOST_ANSWERS + 1:  # a single one more keeps its name, in place of "other"
            frequent = frequent[:MOST_ANSWERS]
        said = Counter(group.rules.form(result["answers"][answerer]["answer"]) for result in chosen)
        of_other_head = [answer for answer in ("yes", "no") if answer in said]
        often = [a for a, _ in said.most_common() if a not in (*frequent, *of_other_head)][:MOST_SAID]
        tables["open_ended"] = table(group, answerer, frequent, [*frequent, *often, *of_other_head])
    return tables


def table(group, answerer, expected, answers):
    """Counts with more rows for other expected answers and for those that the model can't say, and another column."""
    rows, columns = [*expected, OTHER, OUTSIDE], [*answers, OTHER]
    counts = np.zeros((len(rows), len(columns)), dtype=int)
    results, form = group.results, group.rules.form
    for result in results:
        row = result["expected"] if result["expected"] in expected else OTHER if result["known"] else OUTSIDE
        answer = form(result["answers"][answerer]["answer"])
        # An answer that is itself called "other" is counted with the others.
        counts[rows.index(row), columns.index(answer if answer in answers else OTHER)] += 1
    used = counts.any(axis=1) | np.isin(rows, expected)
    wide = counts.any(axis=0) | np.isin(columns, answers)
    writings = Writings(group.rules)
    for result in results:
        given = result["answers"][answerer]["answer"]
        writings.add(result["expected"], result["references"])
        writings.add(form(given), [given])
    shown = writings.commonest()
    return {
        "expected": [shown.get(row, row) for row, kept in zip(rows, used) if kept],
        "given": [shown.get(column, column) for column, kept in zip(columns, wide) if kept],
        "counts": counts[used][:, wide].tolist(),
    }


def by_value(results, column, answerers):
    """The accuracies for each value of a column, most frequent first; values beyond `MOST_VALUES` are one."""
    rows = {}
    for result in results:
        rows.setdefault(str(result["columns"][column]), []).append(result)
    ordered = sorted(rows.items(), key=lambda item: (-len(item[1]), item[0]))
    if len(ordered) > MOST_VALUES:
        rest = [result for _, chosen in ordered[MOST_VALUES:] for result in chosen]
        ordered = [*ordered[:MOST_VALUES], (f"{len(ordered) - MOST_VALUES} more values", rest)]
    groups = {value: Group(chosen) for value, chosen in ordered}
    return [
        {
            "value": value,
            **group.size,
            "coverage": group.coverage,
            "accuracy": {name: group.accuracy(name) for name in answerers},
        }
        for value, group in groups.items()
    ]


def calibration(group, answerer):
    """How far the scores can be trusted: see `processing/reliability.py`."""
    scores, right = group.of(answerer, "score"), group.of(answerer)
    _, coverages, risks = risk_coverage(scores, right)
    kept = np.unique(np.linspace(0, len(risks) - 1, min(len(risks), CURVE_POINTS)).round().astype(int))
    return {
        "mean_score": float(scores.mean()),
        "expected_calibration_error": float(expected_calibration_error(scores, right)),
        "brier": group.images.mean(group.of(answerer, "brier")),
        "area_under_risk_coverage": area_under_risk_coverage(scores, right),
        "bins": reliability_bins(scores, right),
        "risk_coverage": [coverages[kept].tolist(), risks[kept].tolist()],
    }


def worst_errors(results):
    """Places of the most confident wrong routed answers, in this order; the same question about an image once."""
    wrong = [place for place, result in enumerate(results) if result["answers"]["routed"]["correct"] == 0]
    wrong.sort(key=lambda place: -results[place]["answers"]["routed"]["score"])
    different = {}
    for place in wrong:
        different.setdefault((results[place]["image"], results[place]["question"]), place)
    return list(different.values())[:WORST]

"""GQA's own figures: consistency, validity, plausibility, distribution, and accuracy by structural type.

As defined by Hudson and Manning 2019, "GQA: A New Dataset for Real-World Visual Reasoning and Compositional Question
Answering", section 4.4, and computed by the evaluation script that is distributed with the set.
"""

import json
from collections import Counter, defaultdict

import numpy as np

NEEDED = {  # figure -> the columns that it is computed from
    "open and binary accuracy": ("structural",),
    "consistency": ("question_id", "entailed"),
    "validity and plausibility": ("valid", "plausible"),
    "distribution": ("global",),
}
LISTS = ("entailed", "valid", "plausible")
COLUMNS = (*(name for names in NEEDED.values() for name in names), "detailed", "isBalanced")
KINDS = ["color", "material", "shape"]  # the valid answers to what objects have in common, whatever the file says


def read_list(value):
    """A list of texts, also one that is written as JSON; None for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return list(map(str, value)) if isinstance(value, list) else None


def balanced_rows(columns, count):
    """Numbers of the rows that are scored: those of the balanced questions, or all where nothing is said of that."""
    return [row for row, value in enumerate(columns.get("isBalanced", ["1"] * count)) if value == "1"]


def gqa_left_out(columns, count):
    """The figures that some rows can't be given: figure -> why.

    Args:
        columns: name -> the values of each row, of the `COLUMNS` that are there.
        count: number of the rows.
    """
    reasons = {}
    for figure, names in NEEDED.items():
        absent = [name for name in names if name not in columns]
        gaps = {name: columns[name].count(None) for name in names if name in LISTS and name in columns}
        gappy = [f"{gaps[name]:,} of {count:,} rows have no list in {name}" for name in gaps if gaps[name]]
        if absent:
            reasons[figure] = f"no column {' and '.join(absent)}"
        elif gappy:
            reasons[figure] = gappy[0]
    if "consistency" not in reasons:
        ids = set(columns["question_id"])
        entailed = {other for row in balanced_rows(columns, count) for other in columns["entailed"][row]}
        if len(ids) < count:
            reasons["consistency"] = "several rows have one question_id"
        elif entailed - ids:
            reasons["consistency"] = (
                f"{len(entailed - ids):,} of {len(entailed):,} entailed questions are not among the rows; GQA's files "
                f"of all questions have them"
            )
    if "distribution" not in reasons and not any(group is not None for group in columns["global"]):
        reasons["distribution"] = "no row has a group in global"
    return reasons


def gqa_scores(columns, answers, truths):
    """GQA's figures of some answers.

    Args:
        columns: see `gqa_left_out`.
        answers, truths: of each row the answer that the model gives and the right one, as the metric compares them.

    Returns:
        Of the balanced questions, shares in [0, 1] but for the distribution: `gqa_binary_accuracy` and
        `gqa_open_accuracy`, of the questions whose structural type is query; `gqa_consistency`, the accuracy of the
        questions that a question's answer entails, the mean over those questions that are answered right;
        `gqa_validity` and `gqa_plausibility`, how often the answer is one that the question may have at all, and one
        that is seen in the world; `gqa_distribution`, a hundredth of the chi-square statistic of the answers against
        the true ones of each group of questions, the mean over groups by their size; lower is better. Besides
        `gqa_accuracy` where some questions are not balanced. Figures of `gqa_left_out` are left out.
    """
    right = np.array([answer == truth for answer, truth in zip(answers, truths)], float)
    chosen, reasons = balanced_rows(columns, len(answers)), gqa_left_out(columns, len(answers))
    found = {"gqa_accuracy": right[chosen]} if len(chosen) < len(answers) else {}
    if "open and binary accuracy" not in reasons:
        opens = [columns["structural"][row] == "query" for row in chosen]
        found["gqa_binary_accuracy"] = [score for score, is_open in zip(right[chosen], opens) if not is_open]
        found["gqa_open_accuracy"] = [score for score, is_open in zip(right[chosen], opens) if is_open]
    if "consistency" not in reasons:
        found["gqa_consistency"] = consistencies(columns, right, chosen)
    if "validity and plausibility" not in reasons:
        detailed = columns.get("detailed", [""] * len(answers))
        for name, figure in (("valid", "gqa_validity"), ("plausible", "gqa_plausibility")):
            options = [KINDS if "Common" in (detailed[row] or "") else columns[name][row] for row in chosen]
            found[figure] = [answers[row] in possible for row, possible in zip(chosen, options)]
    figures = {name: float(np.mean(scores)) for name, scores in found.items() if len(scores)}
    if "distribution" not in reasons:
        rows = [row for row in chosen if columns["global"][row] is not None]
        if rows:
            of_rows = ([values[row] for row in rows] for values in (columns["global"], answers, truths))
            figures["gqa_distribution"] = distribution(*of_rows)
    return figures


def consistencies(columns, right, chosen):
    """For each question that is answered right and entails others the share of those that are answered right."""
    ids = columns["question_id"]
    row_of = {name: row for row, name in enumerate(ids)}
    entailed = ([row_of[name] for name in columns["entailed"][row] if name != ids[row]] for row in chosen if right[row])
    return [float(right[rows].mean()) for rows in entailed if rows]


def distribution(groups, answers, truths):
    """A hundredth of the mean chi-square statistic, over the true answers of each group; groups count by their size."""
    expected, observed = defaultdict(Counter), defaultdict(Counter)
    for group, answer, truth in zip(groups, answers, truths):
        expected[group][truth] += 1
        observed[group][answer] += 1
    total = 0.0
    for group, counts in expected.items():
        total += counts.total() * sum((observed[group][truth] - n) ** 2 / n for truth, n in counts.items())
    return total / len(groups) / 100

"""What the evaluations of some public sets give besides an accuracy, from columns that their rows have."""

import logging

import numpy as np
from sklearn.metrics import average_precision_score, f1_score

from .answers import AnswerVocabulary, as_list
from .gqa_scores import COLUMNS as GQA_COLUMNS
from .gqa_scores import LISTS, gqa_left_out, gqa_scores, read_list
from .processing_dualvqa import QUESTION_TYPES

logger = logging.getLogger(__name__)

COLUMNS = {"vizwiz": ("answerable",), "gqa": GQA_COLUMNS}  # of the metrics that give more, what they read for that
VALUES = {  # that these columns may have
    "answerable": ("0", "1"),
    "structural": ("query", "verify", "logical", "choose", "compare"),
    "isBalanced": ("0", "1"),
}
MOST_NAMED = 5  # of the rows that a message lists


def check_scored(metric, rows, source, places):
    """Refuses, before anything long starts, rows that a metric can't score, and says which figures it can't give.

    Args:
        metric: of [`AnswerRules`].
        rows: canonical rows with answers.
        source: what messages call them.
        places: [`Places`] of the rows that these were read from.

    Raises:
        ValueError: see `check_people` and `read_columns`.
    """
    if metric not in COLUMNS:
        return
    names = [places.name(row) for row in rows["row"][:]]
    check_people(metric, rows["answer"][:] if metric == "gqa" else [], source, names)
    columns = read_columns(metric, rows, source, names)
    if metric == "gqa":
        reasons = gqa_left_out(columns, len(rows))
    else:
        reasons = {} if columns else {"the finding of unanswerable questions": "no column answerable"}
    if reasons:
        logger.warning(
            "%s: of the figures that --metric %s gives besides an accuracy these are left out: %s",
            source,
            metric,
            "; ".join(f"{figure} ({reason})" for figure, reason in reasons.items()),
        )


def check_people(metric, answers, source, names=None):
    """Refuses several people's answers where the metric is of one person's.

    Args:
        answers: of each row.
        names: what messages call the rows; their numbers from 0 when left out.
    """
    several = [row for row, people in enumerate(answers) if metric == "gqa" and len(as_list(people)) > 1]
    if several:
        raise ValueError(
            f"--metric gqa compares with the answer of one person, and {len(several)} of {len(answers)} rows of "
            f"{source} have several: {named(several, names)}. Give --metric vqa, or one answer for each row"
        )


def read_columns(metric, rows, source, names=None):
    """The values of the columns that a metric reads and the rows have: name -> list.

    Args:
        names: see `check_people`.

    Raises:
        ValueError: a value that is none of `VALUES`.
    """
    found = {}
    for name in COLUMNS.get(metric, ()):
        if name in VALUES and name in rows.column_names:
            found[name] = check_values(metric, name, rows[name][:], source, names)
        elif name in rows.column_names:
            found[name] = [read_list(v) if name in LISTS or v is None else str(v) for v in rows[name][:]]
    return found


def check_values(metric, column, values, source, names):
    """The values of a column as `VALUES` has them; others are refused."""
    texts = [str(int(v)) if isinstance(v, (bool, float)) and v == v and v % 1 == 0 else str(v).strip() for v in values]
    bad = [row for row, text in enumerate(texts) if text not in VALUES[column]]
    if bad:
        found = ", ".join(
            dict.fromkeys("a gap" if texts[row] in ("None", "nan", "") else repr(values[row]) for row in bad[:99])
        )
        raise ValueError(
            f"--metric {metric} needs {' or '.join(VALUES[column])} in the column {column} of {source}, found "
            f"{found} in {len(bad)} of {len(values)} rows: {named(bad, names)}. Mend or rename the column, or give "
            f"another --metric"
        )
    return texts


def named(rows, names):
    shown = ", ".join(names[row] if names else f"row {row}" for row in rows[:MOST_NAMED])
    return shown + (", ..." if len(rows) > MOST_NAMED else "")


def own_scores(rules, columns, processor, outputs, answers, references):
    """The further figures of one evaluation, by the metric.

    Args:
        rules: [`AnswerRules`].
        columns: as `read_columns` gives them.
        processor: the model's.
        outputs: `<head>_logits` -> (n, N).
        answers: n texts, the routed ones.
        references: of each row a list of texts.

    Returns:
        "vizwiz": `unanswerable_average_precision` and `unanswerable_f1`, of finding the questions that can't be
        answered by the probability of the answer "unanswerable" (Gurari et al. 2018, "VizWiz Grand Challenge"; F1 at
        0.5), where both kinds are there and the model knows that answer. "gqa": see `gqa_scores`.
    """
    if rules.metric == "gqa":
        return gqa_scores(columns, list(map(rules.compared, answers)), [rules.compared(one) for (one,) in references])
    truth = np.array([value == "0" for value in columns["answerable"]])
    probability = probability_of("unanswerable", processor, outputs)
    if probability is None or truth.all() or not truth.any():
        logger.warning("finding unanswerable questions can't be scored: it needs both kinds, and the answer itself")
        return {}
    return {
        "unanswerable_average_precision": float(average_precision_score(truth, probability)),
        "unanswerable_f1": float(f1_score(truth, probability > 0.5, zero_division=0)),
    }


def probability_of(answer, processor, outputs):
    """(n,) the probability that a model gives to an open-ended answer, None where it doesn't know it."""
    index = AnswerVocabulary.of(processor, memory=True).encode(answer)
    if index < 0 or "open_ended_logits" not in outputs:
        return None
    temperatures = (processor.calibration or {}).get("temperatures", {})
    shares = {}
    for name, place in (("open_ended", index), ("question_type", QUESTION_TYPES.index("open_ended"))):
        if f"{name}_logits" in outputs:
            logits = outputs[f"{name}_logits"].float() / temperatures.get(name, 1.0)
            shares[name] = logits.softmax(dim=-1)[:, place].numpy()
    return np.prod(list(shares.values()), axis=0)

"""What the evaluations of some public sets give besides an accuracy, from columns that their rows have."""

import logging

import numpy as np
from sklearn.metrics import average_precision_score, f1_score

from .answers import AnswerVocabulary
from .processing_dualvqa import QUESTION_TYPES

logger = logging.getLogger(__name__)

COLUMNS = {"vizwiz": "answerable", "gqa": "structural"}  # of the metrics that give more, the column that they need


def own_scores(rules, column, processor, outputs, right):
    """The further figures of one evaluation, by the metric.

    Args:
        rules: [`AnswerRules`].
        column: the values of the metric's column in `COLUMNS`, of each row.
        processor: the model's.
        outputs: `<head>_logits` -> (n, N).
        right: (n,) how right each routed answer is.

    Returns:
        "vizwiz": `unanswerable_average_precision` and `unanswerable_f1`, of finding the questions that can't be
        answered by the probability of the answer "unanswerable" (Gurari et al. 2018, "VizWiz Grand Challenge"; F1 at
        0.5), where both kinds are there and the model knows that answer. "gqa": `gqa_open_accuracy` of the questions
        whose structural type is query, and `gqa_binary_accuracy` of all others (Hudson and Manning 2019, "GQA"), which
        is not the accuracy of yes and no. Shares in [0, 1].
    """
    if rules.metric == "vizwiz":
        truth = np.array([not int(value) for value in column])
        probability = probability_of("unanswerable", processor, outputs)
        if probability is None or truth.all() or not truth.any():
            logger.warning("finding unanswerable questions can't be scored: it needs both kinds, and the answer itself")
            return {}
        return {
            "unanswerable_average_precision": float(average_precision_score(truth, probability)),
            "unanswerable_f1": float(f1_score(truth, probability > 0.5, zero_division=0)),
        }
    opens = np.array([value == "query" for value in column])
    kinds = {"gqa_binary_accuracy": ~opens, "gqa_open_accuracy": opens}
    return {name: float(np.mean(right[chosen])) for name, chosen in kinds.items() if chosen.any()}


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

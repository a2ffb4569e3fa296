"""Logits -> answers, by the manifest's vocabulary and calibration: what the processor does with tensors, in numpy."""

import math

import numpy as np

from .processor_checks_dualvqa import check_calibration
from .promises_dualvqa import Promises, check_top_k

QUESTION_TYPES = ("binary", "open_ended")


class Decoder:
    """
    Args:
        answers: "binary" -> the words for no and yes; "open_ended" -> the answers in the order of its logits.
        calibration: what the processor's was; see [`DualVQAProcessor`].
    """

    def __init__(self, answers, calibration=None):
        check_calibration(calibration)
        self.answers, self.calibration = answers, calibration or {}

    def __call__(self, outputs, top_k=1, question_type=None, abstain=None, coverage=None, group=None):
        """For each question at most `top_k` dicts, best first; see the processor's `post_process_question_answering`.

        Args:
            outputs: name -> array; `<head>_logits` (B, N) of each head, `question_type_logits` (B, 2) where there are
                two; where the model has them `image_novelty` and `question_novelty` (B,), or `novelty` (B,).
        """
        top_k, promises = check_top_k(top_k, coverage), Promises(self.calibration, abstain, coverage, group)
        heads = [name for name in QUESTION_TYPES if f"{name}_logits" in outputs]
        count = len(outputs[f"{heads[0]}_logits"])
        groups = promises.groups(count)
        router = self.probabilities("question_type", outputs) if len(heads) == 2 else None  # (B, 2)
        types = choose_heads(router, heads, count, question_type)
        shares = [1.0] * count
        if router is not None:
            shares = router[np.arange(count), [QUESTION_TYPES.index(name) for name in types]].tolist()
        unfamiliar = self.unfamiliar(outputs, heads)
        results = [None] * count
        for name in heads:
            scores = self.probabilities(name, outputs)  # (B, N)
            order = np.argsort(-scores, axis=-1, kind="stable")[:, :top_k]
            for row in [row for row in range(count) if types[row] == name]:
                best = scores[row, order[row]].tolist()
                share = shares[row] if question_type is None else 1.0
                items = [
                    {"answer": self.answers[name][index], "score": value * share, "question_type": name}
                    for value, index in zip(best, order[row].tolist())
                ]
                items = promises.applied(items, [value * shares[row] for value in best], name, groups[row])
                if unfamiliar[row]:
                    items = [{**item, "unfamiliar": unfamiliar[row]} for item in items]
                results[row] = items
        return results

    def probabilities(self, name, outputs):
        """The softmax of a head's logits (B, N) over its temperature.

        Raises:
            ValueError: logits that aren't finite, or as many as there are answers.
        """
        logits = outputs[f"{name}_logits"].astype(np.float32)
        rows = (~np.isfinite(logits)).any(axis=-1).nonzero()[0]
        if len(rows):
            raise ValueError(
                f"{len(rows)} of {len(logits)} questions have {name} logits that aren't finite, first number "
                f"{rows[0]}: damaged weights, or too large values of an input"
            )
        if name in self.answers and logits.shape[-1] != len(self.answers[name]):
            raise ValueError(
                f"the {name} head has {logits.shape[-1]} answers and the vocabulary {len(self.answers[name])}; export "
                f"the model again"
            )
        logits = logits / np.float32(self.calibration.get("temperatures", {}).get(name, 1.0))
        values = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return values / values.sum(axis=-1, keepdims=True)

    def unfamiliar(self, outputs, heads):
        """What is foreign of each of B questions, "image" and "question" -> bool, None for one that isn't judged; None
        where nothing is. Compared so that what isn't a number is unfamiliar too."""
        limits = self.calibration.get("familiarity") or {}
        count = len(outputs[f"{heads[0]}_logits"])
        judged = {tower: [None] * count for tower in ("image", "question")}
        for tower in judged:
            if tower in limits and f"{tower}_novelty" in outputs:
                judged[tower] = (~(outputs[f"{tower}_novelty"] <= limits[tower])).tolist()
        over = np.zeros(count, bool)  # by a folder of an earlier version, which can't tell what
        for name, novelty in self.novelty_of_both(outputs, heads).items():
            if name in limits:
                over |= ~(novelty <= limits[name])
        found = [dict(zip(judged, pair)) for pair in zip(*judged.values())]
        return [pair if any(pair.values()) or both else None for pair, both in zip(found, over)]

    def novelty_of_both(self, outputs, heads):
        """The scores that folders of earlier versions have limits for, as the processor's `earlier_scores`."""
        novelty = {} if "novelty" not in outputs else {"distance": outputs["novelty"]}
        for place, name in enumerate(QUESTION_TYPES):
            if name not in heads:
                continue
            logits = outputs[f"{name}_logits"].astype(np.float32)
            most = logits.max(axis=-1)
            energy = -(most + np.log(np.exp(logits - most[:, None]).sum(axis=-1)))
            if len(heads) == 2:
                energy[outputs["question_type_logits"].argmax(axis=-1) != place] = -math.inf
            novelty[f"{name}_energy"] = energy
        return novelty


def choose_heads(router, heads, count, question_type):
    """The head of each question.

    Raises:
        ValueError: a question type that isn't one, that there is no head for, or another number of them.
    """
    if question_type is None and router is not None:
        return [QUESTION_TYPES[index] for index in router.argmax(axis=-1).tolist()]
    if question_type is None:
        question_type = heads[0]
    types = list(question_type) if isinstance(question_type, (list, tuple)) else [question_type] * count
    if len(types) != count or not all(name in heads for name in types):
        raise ValueError(
            f"question_type must be None, one of {', '.join(heads)}, or a list of {count} of these; "
            f"found {question_type!r}"
        )
    return types

"""What is foreign of a question and its image, from the model's novelties and the limits of what is familiar."""

import math

import torch
from transformers.utils import logging

logger = logging.get_logger(__name__)

TYPES = ("binary", "open_ended")
PLACES = (("image", 1), ("question", 3))  # what each tower's judgement counts in a code
BOTH_UNKNOWN = 1 + 2 * 1 + 2 * 3


def foreign_parts(code):
    """What is foreign, from its code: None for 0, nothing; else 1 + image + 3 question, each 0 no, 1 yes, 2 not judged.

    Returns:
        {"image": True, "question": False}; None for what isn't judged.
    """
    judged = (False, True, None)
    return None if not code else {"image": judged[(code - 1) % 3], "question": judged[(code - 1) // 3]}


def foreign_codes(outputs, limits):
    """(B,) the code of `foreign_parts` for each question; None where there are no limits, or nothing to compare.

    Compared so that what isn't a number is unfamiliar too.

    Args:
        outputs: name -> (B, ...) of the model.
        limits: "image" and "question" -> the largest familiar novelty; of folders that earlier versions saved, score of
            `earlier_scores` -> the largest value.
    """
    novelties = {tower: outputs.get(f"{tower}_novelty") for tower, _ in PLACES if tower in limits}
    foreign = {tower: ~(values <= limits[tower]) for tower, values in novelties.items() if values is not None}
    if foreign:
        over = torch.stack(list(foreign.values())).any(dim=0)
        judged = sum(place * (foreign[tower].long() if tower in foreign else 2) for tower, place in PLACES)
        return over.long() * (1 + judged)
    scores = earlier_scores(outputs)
    over = [~(scores[name] <= limit) for name, limit in limits.items() if name in scores]
    return BOTH_UNKNOWN * torch.stack(over).any(dim=0).long() if over else None


def earlier_scores(outputs):
    """How unlike those of training each question and its image are together, in folders of earlier versions.

    Returns:
        A dict with `distance` (B,), the model's `novelty` where it has it, and for each head `<head>_energy` (B,): the
        negative log-sum-exp of its logits (Liu et al. 2020, equation 4, at temperature 1) for questions that the model
        gives to that head, minus infinity for the others.
    """
    heads = [name for name in TYPES if outputs.get(f"{name}_logits") is not None]
    router = outputs.get("question_type_logits")
    scores = {} if outputs.get("novelty") is None else {"distance": outputs["novelty"].float()}
    for name in heads:
        energy = -outputs[f"{name}_logits"].float().logsumexp(dim=-1)
        if router is not None:
            energy = energy.masked_fill(router.argmax(dim=-1) != TYPES.index(name), -math.inf)
        scores[f"{name}_energy"] = energy
    return scores


def tell_missing_familiarity(calibration, config):
    """Warns where limits of what is familiar have no model that measures it: every question would seem familiar."""
    limits = (calibration or {}).get("familiarity") or {}
    if {tower for tower, _ in PLACES} & limits.keys() and not isinstance(getattr(config, "familiarity", None), dict):
        logger.warning(
            "nothing is flagged as unfamiliar: the processor has limits for it and the model doesn't measure it; take "
            "both from the same folder, or calibrate the model with --fit_familiarity"
        )

"""Familiarity of a trainer's model: its towers' states of training, of held-out and of foreign inputs."""

import logging

import torch

from modeling_dualvqa.familiarity_dualvqa import TowersFamiliarity
from modeling_dualvqa.memory_examples_dualvqa import image_vectors, question_vectors

from .familiarity import as_module, fit_tower, fit_towers
from .foreign_inputs import foreign_images, foreign_questions
from .remembering import encode

logger = logging.getLogger(__name__)

MOST_STATES = 5000  # different images and questions that are looked at, and held-out rows; more hardly move anything


def fit_familiarity(trainer, rows, held_out=None, before=None):
    """Gives a trainer's model its familiarity with what it was trained on; where that can't be, a warning says why.

    Args:
        trainer: a [`DualVQATrainer`] whose model is trained.
        rows: canonical training rows.
        held_out: canonical rows for the limits, that it wasn't trained on.
        before: in their place the familiarity whose scales stay, as after a refit on all rows; so do its limits.

    Returns:
        Limits by tower, "image" and "question"; {} where there are none.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        logger.warning(
            "familiarity isn't fitted to a model that is spread over processes; calibrate the saved folder in one "
            "process: --model_name_or_path FOLDER --fit_familiarity"
        )
        return {}
    encoded = encode(trainer, different(rows))
    own = {"image": encoded["images"], "question": encoded["questions"]}
    foreign = foreign_states(model, trainer.processing_class)
    try:
        if held_out is None:
            model.set_familiarity(refitted(own, foreign, before))
            return {}
        encoded = encode(trainer, some(held_out))
        new = {"image": encoded["images"], "question": encoded["questions"][encoded["question_index"]]}
        frozen = {"image": bool(model.config.freeze_vision), "question": bool(model.config.freeze_text)}
        familiarity, limits, problems = fit_towers(own, foreign, new, frozen)
    except ValueError as error:
        model.forget_familiarity()
        logger.warning("nothing will be flagged as unfamiliar: %s", error)
        return {}
    model.set_familiarity(familiarity)
    for tower, problem in problems.items():
        logger.warning("no %s will be flagged as unfamiliar: %s", tower, problem)
    return limits


def refitted(own, foreign, before):
    """The familiarity with other states, its scores on the scales of the fit before."""
    if not isinstance(before, TowersFamiliarity):
        raise ValueError("the limits are of an earlier version's distance; calibrate the model anew")
    towers = {tower: fit_tower(tower, states, foreign[tower]) for tower, states in own.items()}
    for tower, fitted in towers.items():
        fitted.centre.copy_(before[tower].centre)
        fitted.scale.copy_(before[tower].scale)
    return as_module(towers)


def different(rows):
    """Rows with up to `MOST_STATES` of the different images and as many of the different questions."""
    firsts = []
    for column in ("image_key", "question"):
        places = {}
        for number, value in enumerate(rows[column][:]):
            places.setdefault(value, number)
        places = list(places.values())
        chosen = torch.linspace(0, len(places) - 1, min(len(places), MOST_STATES)).long()
        firsts += [places[number] for number in chosen]
    return rows.select(sorted(set(firsts)))


def some(rows):
    """Up to `MOST_STATES` of the rows, the same ones every time."""
    if len(rows) <= MOST_STATES:
        return rows
    return rows.select(torch.linspace(0, len(rows) - 1, MOST_STATES).long().tolist())


@torch.inference_mode()
def foreign_states(model, processor):
    """tower -> for each kind of foreign inputs (m, C), what the tower makes of them."""
    model.eval()
    images = [processor(images=kind, return_tensors="pt").to(model.device) for kind in foreign_images().values()]
    questions = [processor(text=kind, return_tensors="pt").to(model.device) for kind in foreign_questions().values()]
    return {
        "image": [image_vectors(model.encode_images(kind["pixel_values"])).cpu() for kind in images],
        "question": [
            question_vectors(model.encode_questions(**kind), kind["attention_mask"]).cpu() for kind in questions
        ],
    }

"""Parameters that are frozen in a run of training, chosen by their names."""

import logging
import re

logger = logging.getLogger(__name__)


def freeze_parameters(model, expression):
    """Turns off the gradients of the parameters in whose name the expression is found, wherever in it.

    Nothing is thawed, and nothing but parameters is frozen: batch-norm statistics go on moving and dropout goes on
    dropping. `freeze_encoders` stops these too, for a whole tower. Which parameters are frozen belongs to the run; a
    saved model comes back with everything trainable but its frozen towers.

    Args:
        model: a model before its optimizer is made.
        expression: a regular expression for `re.search`; None or "" freezes nothing.

    Raises:
        ValueError: it is found in no name, or leaves nothing to train. The message has some names.
    """
    if not expression:
        return
    parameters = dict(model.named_parameters())
    matched = [name for name in parameters if re.search(expression, name)]
    if not matched:
        raise ValueError(
            f"freeze_parameters {expression!r} is found in none of the {len(parameters)} names of parameters; they are "
            f"such as {', '.join(examples(parameters))}"
        )
    trained = {name for name, parameter in parameters.items() if parameter.requires_grad}
    left = trained.difference(matched)
    if not left:
        raise ValueError(
            f"freeze_parameters {expression!r} leaves nothing to train: it is found in {len(matched)} of the "
            f"{len(parameters)} names of parameters, such as {', '.join(examples(matched))}, and the others are frozen"
        )
    for name in trained.intersection(matched):
        parameters[name].requires_grad_(False)
    if len(left) < len(trained):
        logger.info(
            "freeze_parameters: %s parameters in %d tensors are frozen, %s are trained",
            f"{model.num_parameters() - model.num_parameters(only_trainable=True):,}",
            len(parameters) - len(left),
            f"{model.num_parameters(only_trainable=True):,}",
        )


def examples(names):
    """The first name of each part of the model."""
    return list({name.split(".")[0]: name for name in reversed(list(names))}.values())[::-1]

"""Weights from elsewhere: every tensor of a model comes from where it is loaded, or nothing is loaded at all."""

import contextlib
import importlib

from transformers import AutoConfig, AutoModel, PreTrainedConfig
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from .configuration_dualvqa import DualVQAConfig, tower_fields
from .encoders_dualvqa import is_torchvision_name
from .values_dualvqa import checked


class ShapeError(ValueError, RuntimeError):
    """Weights of other shapes than the model's; a RuntimeError in transformers, and so for those who expect that."""


def check_names(source, missing, unexpected, advice=""):
    """Refuses weights that would leave some of a model's tensors at random.

    Args:
        source: what the weights are from, for the message.
        missing: names of tensors that the model has and the weights lack.
        unexpected: names of tensors that the weights have and the model lacks.
        advice: what to do.

    Raises:
        ValueError: there are such names.
    """
    found = {"are missing": missing, "have no place in it": unexpected}
    problems = [f"{len(names)} tensors {kind}, first {min(names)}" for kind, names in found.items() if names]
    if problems:
        raise ValueError(
            f"the weights of {source} are not those of the model: {'; '.join(problems)}. {advice}".rstrip()
        )


def check_shapes(source, mismatched):
    """Refuses weights some of whose tensors have other shapes than the model's.

    Args:
        source: what the weights are from, for the message.
        mismatched: (name, shape there, shape in the model) of each, as transformers reports them.

    Raises:
        ShapeError: there are such tensors.
    """
    if mismatched:
        name, found, expected = min(mismatched)
        raise ShapeError(
            f"the weights of {source} are not those of the model: {len(mismatched)} tensors have other shapes, first "
            f"{name}: {tuple(found)} there, {tuple(expected)} in the model. Copy the folder again, with weights and "
            f"config.json of one model; ignore_mismatched_sizes=True starts such tensors anew"
        )


def whole(model):
    """A context in which a model that ZeRO-3 has spread over the processes has its whole tensors in each."""
    if not is_deepspeed_zero3_enabled():
        return contextlib.nullcontext()
    # Not an import statement: transformers would demand deepspeed of everyone who loads a saved folder's code.
    return importlib.import_module("deepspeed").zero.GatheredParameters(list(model.parameters()))


def vision_text_config(vision=None, text=None, **overrides):
    """The configuration of `DualVQAForQuestionAnswering.from_vision_text_pretrained`, without its weights."""
    vision_fields, text_fields = (
        checked(name, {} if overrides.get(name) is None else overrides[name], dict | PreTrainedConfig)
        for name in ("vision_config", "text_config")
    )
    overrides = {name: value for name, value in overrides.items() if name not in ("vision_config", "text_config")}
    if vision is not None and is_torchvision_name(vision):
        vision_config = {**vision_fields, "architecture": vision}
    else:
        vision_config = tower_config(vision, "vision_config", vision_fields)
    text_config = tower_config(text, "text_config", text_fields)
    return DualVQAConfig(vision_config=vision_config, text_config=text_config, **overrides)


def tower_config(name, part, fields):
    """A tower's configuration: that of the pretrained model `name`, of which it may be a part, and `fields` over it."""
    if name is None:
        return fields
    config = AutoConfig.from_pretrained(name)
    config = getattr(config, part, config)  # half of a DualVQA model, or of CLIP and its kin
    config.update(tower_fields(part, type(config), fields))
    return config


def load_tower(name, part, model):
    """Gives a tower of `model` the weights of the pretrained model `name`, or of that DualVQA model's own tower.

    Raises:
        ValueError: the pretrained model lacks some of them.
    """
    tower = getattr(model, part)
    if AutoConfig.from_pretrained(name).model_type == DualVQAConfig.model_type:
        copy_weights(getattr(type(model).from_pretrained(name), part), tower)
        return
    pretrained, info = AutoModel.from_pretrained(
        name, config=tower.model.config, output_loading_info=True, ignore_mismatched_sizes=True
    )
    check_shapes(name, info["mismatched_keys"])
    own = tower.model.state_dict().keys()  # without a pooler, which many pretrained models lack
    # What else a pretrained model has is that of its own task: another tower, a language model's head.
    check_names(name, own & set(info["missing_keys"]), [], f"Its {part} would start at random: is it another network?")
    copy_weights(pretrained, tower.model)


def copy_weights(source, target):
    """Copies every tensor of `target` from the module of the same class `source`, which may have more (a pooler)."""
    with whole(source):
        missing, _ = target.load_state_dict(source.state_dict(), strict=False)
    check_names(f"the pretrained {type(source).__name__}", missing, [])

"""Weights from elsewhere: every tensor of a model comes from where it is loaded, or nothing is loaded at all."""

import contextlib
import difflib
import importlib
import os

import torchvision
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModel,
    PreTrainedConfig,
)
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.utils import logging

from .configuration_dualvqa import DualVQAConfig, tower_fields
from .encoders_dualvqa import is_torchvision_name
from .values_dualvqa import checked

logger = logging.get_logger(__name__)

PARTS = {"vision_config": "vision tower", "text_config": "text tower"}
# What a mistyped name may mean, beside torchvision's names and the folders beside it.
USUAL = {
    "vision_config": (
        "timm/tf_efficientnet_lite0.in1k",
        "timm/resnet18.a1_in1k",
        "google/vit-base-patch16-224",
        "google/siglip-base-patch16-224",
        "openai/clip-vit-base-patch32",
        "facebook/dinov2-small",
        "microsoft/resnet-50",
    ),
    "text_config": (
        "distilbert-base-uncased",
        "distilbert-base-multilingual-cased",
        "bert-base-uncased",
        "roberta-base",
        "google-t5/t5-small",
        "google/siglip-base-patch16-224",
        "openai/clip-vit-base-patch32",
        "sentence-transformers/all-MiniLM-L6-v2",
    ),
}
# Text encoders whose first token is no [CLS], beside those that see only what is before it.
WITHOUT_CLS = ("siglip_text_model", "siglip2_text_model", "t5", "mt5", "umt5", "t5gemma")


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
    config = DualVQAConfig(vision_config=vision_config, text_config=text_config, **overrides)
    kind = config.text_config.model_type
    causal = is_causal(config.text_config)
    if causal and overrides.get("text_pooling") == "first":
        raise ValueError(f"the first token of a {kind} sees no other: set text_pooling to mean")
    if "text_pooling" not in overrides and (causal or kind in WITHOUT_CLS):
        config.text_pooling = "mean"
        logger.info("text_pooling is mean: a %s has no first token that stands for the question", kind)
    return config


def is_causal(config):
    """Whether each token of a text model sees only those before it, as far as its kind shows."""
    causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING
    return causal or config.model_type == "clip_text_model"


def tower_config(name, part, fields):
    """A tower's configuration: that of the pretrained model `name`, of which it may be a part, and `fields` over it."""
    if name is None:
        return fields
    config = pretrained_config(name, part)
    config = getattr(config, part, config)  # half of a DualVQA model, or of CLIP and its kin
    config.update(tower_fields(part, type(config), fields))
    return config


def pretrained_config(name, part):
    """The configuration of the pretrained model `name`, of which `part` is wanted.

    Raises:
        OSError: it can't be reached; the message has the tower, and names that are like it.
        ValueError: it is no model of transformers.
    """
    with naming_tower(name, part):
        try:
            return AutoConfig.from_pretrained(name)
        except ValueError as error:
            raise ValueError(
                f"the {PARTS[part]} {str(name)!r} can't be loaded: {' '.join(str(error).split())}"
            ) from error


@contextlib.contextmanager
def naming_tower(name, part):
    """Whatever can't be loaded within is an OSError that says which tower it is, and what its name may have meant."""
    try:
        yield
    except OSError as error:
        reason = " ".join(str(error).split())
        if os.path.isdir(name):
            raise OSError(f"the {PARTS[part]} {str(name)!r} can't be loaded: {reason}") from error
        kinds = "a torchvision classifier, nor " if part == "vision_config" else ""
        raise OSError(
            f"the {PARTS[part]} {str(name)!r} is neither {kinds}a folder, nor a repository that can be reached"
            f"{likely(str(name), part)} ({reason})"
        ) from error


def likely(name, part):
    """ "; did you mean X?" for the name of a tower, where there is one like it."""
    parent = os.path.dirname(name) or "."
    beside = os.listdir(parent) if os.path.isdir(parent) else []
    known = [*USUAL[part], *(os.path.join(os.path.dirname(name), entry) for entry in beside)]
    if part == "vision_config":
        known += torchvision.models.list_models(module=torchvision.models)
    close = difflib.get_close_matches(name, [entry for entry in known if entry != name], n=3, cutoff=0.75)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def load_tower(name, part, model):
    """Gives a tower of `model` the weights of the pretrained model `name`, or of that DualVQA model's own tower.

    Raises:
        ValueError: the pretrained model lacks some of them.
    """
    tower = getattr(model, part)
    config_name = part.replace("_encoder", "_config")
    larger = pretrained_config(name, config_name)
    if larger.model_type == DualVQAConfig.model_type:
        copy_weights(getattr(type(model).from_pretrained(name), part), tower)
        return
    with naming_tower(name, config_name):
        pretrained, missing = load_whole(
            name, tower.model, of_larger=larger.model_type != tower.model.config.model_type
        )
    own = tower.model.state_dict().keys()  # without a pooler, which many pretrained models lack
    # What else a pretrained model has is that of its own task: another tower, a language model's head.
    check_names(name, own & missing, [], f"Its {part} would start at random: is it another network?")
    copy_weights(pretrained, tower.model)


def load_whole(name, model, of_larger):
    """The pretrained model `name` as a model of the same class, and the names of the tensors that it lacks.

    Args:
        of_larger: whether it is a part of a larger model (CLIP, BLIP), whose weights may have names of their own there.
    """
    options = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    pretrained, info = type(model).from_pretrained(name, config=model.config, **options)
    check_shapes(name, info["mismatched_keys"])
    if not of_larger or not model.state_dict().keys() & set(info["missing_keys"]):
        return pretrained, set(info["missing_keys"])
    larger, info = AutoModel.from_pretrained(name, **options)
    for prefix, part in larger.named_modules():
        if type(part) is type(model):
            start = f"{prefix}."
            return part, {key.removeprefix(start) for key in info["missing_keys"] if key.startswith(start)}
    return pretrained, model.state_dict().keys()


def copy_weights(source, target):
    """Copies every tensor of `target` from the module of the same class `source`, which may have more (a pooler)."""
    with whole(source):
        missing, _ = target.load_state_dict(source.state_dict(), strict=False)
    check_names(f"the pretrained {type(source).__name__}", missing, [])

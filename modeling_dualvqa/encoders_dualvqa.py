"""The towers: each turns its input into one sequence of states whose first vector is the pooled one.

That is their whole interface: `encoder(...)` gives (N, 1 + S, C) and `encoder.hidden_size` is C. A fusion that works on
pooled vectors reads `states[:, 0]`; one that works on the image grid or the question's tokens reads all of them.
"""

import difflib
import inspect
import os
from collections import OrderedDict

import torch
import torchvision
from safetensors.torch import load_file
from torch import nn
from transformers import MODEL_MAPPING, AutoModel

from .configuration_dualvqa import TorchvisionEncoderConfig

# The first child of a torchvision classifier that no longer gives a feature map.
CLASSIFIER_PARTS = ("avgpool", "flatten", "classifier", "fc", "head", "heads")


def build_trunk(config):
    """The layers of a torchvision classifier before its pooling and classifier, in order and with their own names."""
    classifier = torchvision.models.get_model(config.architecture, weights=None, **(config.model_kwargs or {}))
    layers = OrderedDict()
    for name, child in classifier.named_children():
        if name in CLASSIFIER_PARTS:
            break
        layers[name] = child
    return nn.Sequential(layers)


def infer_channels(config):
    """Channels of the last feature map of `config`'s trunk, found by a forward pass that computes nothing.

    Raises:
        ValueError: torchvision has no classifier of that name, or its layers are no plain sequence up to a feature
            map (vision transformers, GoogLeNet, RegNet).
    """
    names = torchvision.models.list_models(module=torchvision.models)
    if config.architecture not in names:
        close = difflib.get_close_matches(config.architecture, names) or names
        raise ValueError(
            f"torchvision has no classifier {config.architecture!r}; did you mean one of {', '.join(close)}?"
        )
    try:
        with torch.device("meta"):
            shape = build_trunk(config).eval()(torch.empty(1, 3, config.image_size, config.image_size)).shape
        _, channels, _, _ = shape
    except Exception as error:
        raise ValueError(
            f"{config.architecture} is no plain sequence of layers up to a feature map, so it can't be a torchvision "
            f"tower; take the same network from transformers or timm"
        ) from error
    return channels


def with_pooled(grid):
    """Puts the mean over the grid before the grid: (U, C, h, w) -> (U, 1 + h w, C)."""
    sequence = grid.flatten(2).transpose(1, 2)  # (U, h w, C)
    return torch.cat([sequence.mean(dim=1, keepdim=True), sequence], dim=1)  # (U, 1 + h w, C)


class TorchvisionEncoder(nn.Module):
    """A torchvision classifier up to its last feature map; the pooled vector is the mean over the map."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        config.hidden_size = config.hidden_size or infer_channels(config)
        self.hidden_size = config.hidden_size
        self.trunk = build_trunk(config)
        if config.batch_norm_momentum is not None:
            for module in self.trunk.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = config.batch_norm_momentum

    def forward(self, pixel_values):
        # Channels last: the same numbers, and half the time for MobileNetV3 on a CPU.
        return with_pooled(self.trunk(pixel_values.contiguous(memory_format=torch.channels_last)))


def is_torchvision_name(name):
    """Whether `name` is a torchvision classifier's and not a folder's."""
    return name in torchvision.models.list_models(module=torchvision.models) and not os.path.isdir(name)


def load_torchvision_weights(encoder, file=None):
    """Fills a [`TorchvisionEncoder`] with the ImageNet weights of its architecture.

    Args:
        file: .safetensors or torch-saved state dict of the whole classifier; torchvision's download when left out.

    Raises:
        ValueError: the file lacks tensors that the architecture needs, or they have another shape.
    """
    architecture, target = encoder.config.architecture, encoder.trunk.state_dict()
    if file is None:
        source = torchvision.models.get_model_weights(architecture).DEFAULT.get_state_dict(check_hash=True)
    elif str(file).endswith(".safetensors"):
        source = load_file(file)
    else:
        source = torch.load(file, map_location="cpu", weights_only=True)
    wrong = [name for name, tensor in target.items() if name not in source or source[name].shape != tensor.shape]
    if wrong:
        raise ValueError(
            f"{file or 'the downloaded weights'} don't fit {architecture}: {len(wrong)} of its {len(target)} tensors "
            f"are missing or have another shape, first {wrong[0]}"
        )
    encoder.trunk.load_state_dict({name: source[name] for name in target})


class TransformersVisionEncoder(nn.Module):
    """Any vision model of transformers (timm through its wrapper), convolutional or transformer."""

    def __init__(self, config):
        super().__init__()
        self.model = build_transformers_model(config)
        timm_model = getattr(self.model, "timm_model", None)
        widths = getattr(config, "hidden_sizes", None)
        if timm_model is not None:
            self.hidden_size = timm_model.num_features
        else:
            self.hidden_size = widths[-1] if widths else config.hidden_size

    def forward(self, pixel_values):
        outputs = self.model(pixel_values=pixel_values)
        states = outputs.last_hidden_state
        if states.ndim == 4:  # convolutional: (U, C, h, w)
            return with_pooled(states)
        pooled = getattr(outputs, "pooler_output", None)
        if pooled is None:  # transformer without a pooler: its first token, [CLS], is the pooled state
            return states
        return torch.cat([pooled[:, None], states], dim=1)  # (U, 1 + S, C)


class TextEncoder(nn.Module):
    """Any text encoder of transformers; the pooled vector is the state of its first token, [CLS]."""

    def __init__(self, config):
        super().__init__()
        if config.is_encoder_decoder:
            raise ValueError(f"text_config is a {config.model_type}, an encoder-decoder; expected an encoder")
        self.model = build_transformers_model(config)
        self.hidden_size = config.hidden_size

    def forward(self, input_ids, attention_mask=None):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (B, T, C)


def build_transformers_model(config):
    """The bare model of `config` with weights at random, without a pooler that nothing would train."""
    model_class = MODEL_MAPPING[type(config)]
    model_class = model_class[0] if isinstance(model_class, (list, tuple)) else model_class
    takes_pooler = "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
    return AutoModel.from_config(config, **({"add_pooling_layer": False} if takes_pooler else {}))


def build_vision_encoder(config):
    # By name, not by class: classes loaded from a saved folder's code are never identical to a package's.
    if config.model_type == TorchvisionEncoderConfig.model_type:
        return TorchvisionEncoder(config)
    return TransformersVisionEncoder(config)

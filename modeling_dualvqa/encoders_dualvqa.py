"""The towers: each turns its input into one sequence of states whose first vector is the pooled one.

That is their whole interface: `encoder(...)` gives a [`TowerOutput`] and `encoder.hidden_size` is C. A fusion that
works on pooled vectors reads `states[:, 0]`; one that works on the image grid or the question's tokens reads all.
"""

import contextlib
import difflib
import inspect
import os
from collections import OrderedDict
from typing import NamedTuple

import torch
import torchvision
import transformers
from safetensors.torch import load_file
from torch import nn
from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING
from transformers import initialization as init
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.utils import logging

from .configuration_dualvqa import TorchvisionEncoderConfig

logger = logging.get_logger(__name__)

# The first child of a torchvision classifier that no longer gives a feature map.
CLASSIFIER_PARTS = ("avgpool", "flatten", "classifier", "fc", "head", "heads")
CHANNELS = {}  # of each trunk that was asked for: finding them takes several times as long as building the trunk


class TowerOutput(NamedTuple):
    """What a tower computes.

    Args:
        states: (N, 1 + S, C), the pooled vector first.
        hidden_states: on request, what each layer gave, in order: (N, T, C) or feature maps (N, C, h, w).
        attentions: on request, each layer's attention weights (N, heads, T, T); None where the tower has none to give.
    """

    states: torch.Tensor
    hidden_states: tuple | None = None
    attentions: tuple | None = None


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
    key = (config.architecture, config.image_size, repr(config.model_kwargs))
    if key not in CHANNELS:
        try:
            with torch.device("meta"):
                shape = build_trunk(config).eval()(torch.empty(1, 3, config.image_size, config.image_size)).shape
            _, CHANNELS[key], _, _ = shape
        except Exception as error:
            raise ValueError(
                f"{config.architecture} is no plain sequence of layers up to a feature map, so it can't be a "
                f"torchvision tower; take the same network from transformers or timm"
            ) from error
    return CHANNELS[key]


def with_pooled(grid):
    """Puts the mean over the grid before the grid: (U, C, h, w) -> (U, 1 + h w, C)."""
    sequence = grid.flatten(2).transpose(1, 2)  # (U, h w, C)
    return torch.cat([sequence.mean(dim=1, keepdim=True), sequence], dim=1)  # (U, 1 + h w, C)


class BatchNorm2d(nn.BatchNorm2d):
    """As in torch, but its weights may have less precision than its statistics, as in mixed precision under FSDP2."""

    def forward(self, maps):
        if self.training:
            self.num_batches_tracked.add_(1)
        weight, bias = self.weight.to(self.running_mean.dtype), self.bias.to(self.running_mean.dtype)
        return nn.functional.batch_norm(
            maps, self.running_mean, self.running_var, weight, bias, self.training, self.momentum, self.eps
        )


class TorchvisionEncoder(nn.Module):
    """A torchvision classifier up to its last feature map; the pooled vector is the mean over the map."""

    gradient_checkpointing = False  # transformers turns it on, and sets the function that checkpoints

    def __init__(self, config):
        super().__init__()
        self.config = config
        config.hidden_size = config.hidden_size or infer_channels(config)
        self.hidden_size = config.hidden_size
        self.trunk = build_trunk(config)
        for module in self.trunk.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.__class__ = BatchNorm2d
                if config.batch_norm_momentum is not None:
                    module.momentum = config.batch_norm_momentum

    def forward(self, pixel_values, output_hidden_states=False, output_attentions=False):
        # Channels last: the same numbers, and half the time for MobileNetV3 on a CPU. On a GPU as usual: there cuDNN
        # takes all depthwise convolutions of that layout, and compiles them again for each new number of images.
        layout = torch.channels_last if pixel_values.device.type == "cpu" else torch.contiguous_format
        maps = pixel_values.contiguous(memory_format=layout)
        hidden_states = [] if output_hidden_states else None
        for stage in self.stages():
            if self.gradient_checkpointing and self.training:
                maps = self.checkpoint(stage, maps)
            else:
                maps = run(stage, maps)  # (U, C, h, w)
            if output_hidden_states:
                hidden_states.append(maps)
        return TowerOutput(with_pooled(maps), given(hidden_states, output_hidden_states))

    def stages(self):
        """The trunk in pieces, lists of layers: each block alone, and single layers (a stem's) together."""
        layers = []
        for name, child in self.trunk.named_children():
            layers += child if name == "features" else [child]  # torchvision's name for most of a network
        stages, after_single = [], False
        for layer in layers:
            single = not layer._modules
            if single and after_single:
                stages[-1].append(layer)
            else:
                stages.append([layer])
            after_single = single
        return stages

    def checkpoint(self, stage, maps):
        """`run(stage, maps)`, computed again in the backward pass; batch-norm statistics still see a batch once."""
        return self._gradient_checkpointing_func(
            run, stage, maps, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), kept_buffers(stage))
        )

    @torch.no_grad()
    def reset_bare_tensors(self):
        """Gives torchvision's start values to what is no layer of torch: layer scales, position tables and indices.

        Tensors that were loaded are left alone.
        """
        owners = {
            name
            for name, part in self.trunk.named_modules()
            if not type(part).__module__.startswith("torch.nn.") and not isinstance(part, BatchNorm2d)
        }
        tensors = dict([*self.trunk.named_parameters(), *self.trunk.named_buffers()])
        bare = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[0] in owners}
        if any(not getattr(tensor, "_is_hf_initialized", False) for tensor in bare.values()):
            fresh = build_trunk(self.config).state_dict()
            for name, tensor in bare.items():
                init.copy_(tensor, fresh[name])


def run(layers, maps):
    for layer in layers:
        maps = layer(maps)
    return maps


@contextlib.contextmanager
def kept_buffers(layers):
    """Puts the layers' buffers back to what they were, whatever is computed inside."""
    buffers = [buffer for layer in layers for buffer in layer.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, before):
            buffer.data.copy_(value)  # .data: autograd must not take this for a change of what it saved


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


def infer_width(model, config):
    """Channels of the states of a transformers vision model, found by a forward pass that computes nothing.

    What configurations say of it has many names (`hidden_dim`, `last_hidden_size`), and is another number in some
    (MobileViT expands its last states).

    Raises:
        ValueError: it gives no states for pixels alone, or leaves out some of an image at random.
    """
    if is_deepspeed_zero3_enabled():  # it may have spread the weights over the processes already
        return config.hidden_sizes[-1] if getattr(config, "hidden_sizes", None) else config.hidden_size
    if getattr(config, "mask_ratio", 0):
        raise ValueError(
            f"a {config.model_type} with mask_ratio {config.mask_ratio} doesn't see that share of each image: set "
            f"mask_ratio 0 in vision_config"
        )
    size = getattr(config, "image_size", None) or 224
    height, width = (size, size) if isinstance(size, int) else size
    training, tensors = model.training, dict([*model.named_parameters(), *model.named_buffers()])
    try:
        with torch.no_grad(), torch.device("meta"):
            tensors = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
            pixels = {"pixel_values": torch.empty(1, 3, height, width)}
            states = torch.func.functional_call(model.eval(), tensors, kwargs=pixels).last_hidden_state
        return states.shape[{3: 2, 4: 1}[states.ndim]]  # (U, S, C) or (U, C, h, w)
    except Exception as error:
        raise ValueError(
            f"a {config.model_type} can't be a vision tower, because it gives no states for pixels (1, 3, {height}, "
            f"{width}) alone ({error}); take an image encoder, or the vision part of a larger model"
        ) from error
    finally:
        model.train(training)


class TransformersVisionEncoder(nn.Module):
    """Any vision model of transformers (timm through its wrapper), convolutional or transformer."""

    def __init__(self, config):
        super().__init__()
        self.model = build_transformers_model(config)
        timm_model = getattr(self.model, "timm_model", None)
        self.hidden_size = infer_width(self.model, config) if timm_model is None else timm_model.num_features
        names = {name.rpartition(".")[2] for name, _ in self.model.named_parameters()}
        self.has_class_token = bool(names & {"cls_token", "class_embedding"})

    def forward(self, pixel_values, output_hidden_states=False, output_attentions=False):
        output_attentions = output_attentions and not hasattr(self.model, "timm_model")  # timm's refuse to be asked
        outputs = self.model(pixel_values=pixel_values, **requested(output_hidden_states, output_attentions))
        states, pooled = outputs.last_hidden_state, getattr(outputs, "pooler_output", None)
        if states.ndim == 4:  # convolutional: (U, C, h, w)
            states = with_pooled(states)
        elif pooled is not None or not self.has_class_token:  # [CLS], where there is one, is in first place already
            pooled = states.mean(dim=1) if pooled is None else pooled  # as Swin's own pooler
            states = torch.cat([pooled[:, None], states], dim=1)  # (U, 1 + S, C)
        hidden_states = given(outputs.get("hidden_states"), output_hidden_states)
        return TowerOutput(states, hidden_states, given(outputs.get("attentions")))


class TextEncoder(nn.Module):
    """Any text encoder of transformers; the pooled vector is the state of its first token, [CLS]."""

    def __init__(self, config):
        super().__init__()
        kind = model_class_of(config)
        names = inspect.signature(kind.forward).parameters
        if "input_ids" not in names or {"pixel_values", "decoder_input_ids"} & set(names):
            raise ValueError(
                f"a {config.model_type} ({kind.__name__}) can't be a text tower, which turns the tokens of a question "
                f"into states; take a text encoder (BERT, T5's encoder), or a model that has one (CLIP, SigLIP)"
            )
        self.model = build_transformers_model(config)
        self.hidden_size = config.hidden_size
        self.has_token_types = "token_type_ids" in names
        # Found here by transformers, which looks for tied weights (T5's embeddings) in a model's own children alone.
        tied = getattr(self.model, "all_tied_weights_keys", {})
        self.all_tied_weights_keys = {f"model.{key}": f"model.{source}" for key, source in tied.items()}
        if tied:  # one module for both: the one that is asked for is the one that a question goes through
            self.model.set_input_embeddings(self.model.get_input_embeddings())

    def forward(
        self, tokens, attention_mask=None, token_type_ids=None, output_hidden_states=False, output_attentions=False
    ):
        """
        Args:
            tokens: (V, T) their ids, or (V, T, C) their embeddings.
            token_type_ids: (V, T), for a model that has such types; another one ignores them.
        """
        options = requested(output_hidden_states, output_attentions)
        if token_type_ids is not None and self.has_token_types:
            options["token_type_ids"] = token_type_ids
        options["inputs_embeds" if tokens.is_floating_point() else "input_ids"] = tokens
        outputs = self.model(attention_mask=attention_mask, **options)
        hidden_states = given(outputs.get("hidden_states"), output_hidden_states)
        return TowerOutput(outputs.last_hidden_state, hidden_states, given(outputs.get("attentions")))


def requested(output_hidden_states, output_attentions):
    """Keyword arguments for a transformers model; only what is asked for, because not every model knows both."""
    flags = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
    return {name: True for name, wanted in flags.items() if wanted}


def given(tensors, which=True):
    """A tuple of what each layer gave, or None where it gives nothing, as sdpa gives no attention weights.

    Args:
        which: True for all, or the number of one, or a list of numbers, also from the end (-1); the others are None.
            Numbers that don't exist choose nothing, as in transformers, because not every tower has as many layers.
    """
    if not tensors or tensors[0] is None:
        return None
    if which is True:
        return tuple(tensors)
    count, numbers = len(tensors), [which] if isinstance(which, int) else which
    chosen = {number % count for number in numbers if -count <= number < count}
    return tuple(tensor if number in chosen else None for number, tensor in enumerate(tensors))


def build_transformers_model(config):
    """The bare model of `config` with weights at random, without a pooler that nothing would train."""
    model_class = model_class_of(config)
    # What is asked of a whole model is written to its towers' configurations, and a tower without it raises.
    if config._attn_implementation == "sdpa" and not model_class._supports_sdpa:
        tell_kept_attention(model_class.__name__, "eager", "sdpa")
        config._attn_implementation = "eager"
    takes_pooler = "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
    # Not AutoModel.from_config: under ZeRO-3 it would spread this part over the processes before the rest is built.
    return model_class(config, **({"add_pooling_layer": False} if takes_pooler else {}))


def tell_kept_attention(name, kept, wanted):
    logger.warning(f"the tower {name} has no {wanted} attention and keeps {kept}; everything else takes {wanted}")


def model_class_of(config):
    """The class of `config`'s bare model; of T5, an encoder-decoder, that of its encoder alone.

    Raises:
        ValueError: transformers has none.
    """
    kind = MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(config), None) or MODEL_MAPPING.get(type(config), None)
    kind = kind[0] if isinstance(kind, (list, tuple)) else kind
    # Halves of larger models, SigLIP's for one, are in no mapping.
    kind = kind or getattr(transformers, type(config).__name__.removesuffix("Config") + "Model", None)
    if kind is None:
        raise ValueError(f"a {config.model_type} can't be a tower: transformers has no model of its states alone")
    return kind


def build_vision_encoder(config):
    # By name, not by class: classes loaded from a saved folder's code are never identical to a package's.
    if config.model_type == TorchvisionEncoderConfig.model_type:
        return TorchvisionEncoder(config)
    return TransformersVisionEncoder(config)

"""Whether a new model can be built with its settings: said before the data are read and long before any training."""

import math
import os

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoTokenizer, initialization

from modeling_dualvqa import DualVQAForQuestionAnswering, TorchvisionEncoderConfig
from modeling_dualvqa.encoders_dualvqa import is_torchvision_name
from modeling_dualvqa.weights_dualvqa import naming_tower, pretrained_config, vision_text_config
from processing.image_processing_dualvqa import made_size
from processing.processor_checks_dualvqa import check_tokenizer

from .tower_images import build_image_processor


def model_fields(args, fields):
    """The fields of a new model's configuration that don't depend on the data."""
    fields = dict(fields)
    if args.single_head:
        fields["heads"] = ["open_ended"]
    vision, name = fields.get("vision_config") or {}, args.vision_model_name_or_path
    if isinstance(vision, dict) and has_free_size(name, vision):
        size = args.image_size or vision.get("image_size")
        if name and not size:
            height, width = made_size(build_image_processor(args, None, told=False))
            size = height if height == width else None
        fields["vision_config"] = {**vision, "image_size": size} if size else vision
    return fields


def chosen_size(fields):
    """The size of images that the fields of a configuration have, or None."""
    vision = fields.get("vision_config")
    return vision.get("image_size") if isinstance(vision, dict) else getattr(vision, "image_size", None)


def has_free_size(name, fields):
    """Whether a vision tower's configuration has a size, and one that its weights don't hang on.

    Args:
        name: the pretrained tower, or None.
        fields: those of its configuration that are chosen.
    """
    if name and is_torchvision_name(name):
        return True
    if name:
        config = pretrained_config(name, "vision_config")
        return getattr(config, "vision_config", config).model_type == TorchvisionEncoderConfig.model_type
    model_type = fields.get("model_type")
    return model_type not in CONFIG_MAPPING or hasattr(AutoConfig.for_model(model_type), "image_size")


def check_images(model, size):
    """Makes sure that a vision tower takes the images that the processor makes, by a pass that computes nothing.

    Raises:
        ValueError: it doesn't, as most vision transformers take one size alone.
    """
    try:
        with torch.no_grad(), torch.device("meta"):
            model.vision_encoder(torch.empty(1, 3, *size))
    except Exception as error:
        own, problem = getattr(model.config.vision_config, "image_size", None), " ".join(str(error).split())[:200]
        raise ValueError(
            f"the vision tower can't take images of {size[1]} x {size[0]} pixels ({problem}); "
            f"leave image_size out{f', or give {own}' if isinstance(own, int) else ''}"
        ) from error


def check_new_model(args, fields):
    """Makes sure, before the data are read, that the model that the settings ask for can be built.

    Args:
        args: [`NewModelArguments`].
        fields: those of [`DualVQAConfig`] that are chosen.

    Raises:
        ValueError: it can't, or its text tower has fewer positions than questions may have tokens.
        OSError: a pretrained tower isn't there.
    """
    if args.vision_weights_file and not os.path.isfile(args.vision_weights_file):
        raise ValueError(f"--vision_weights_file {args.vision_weights_file}: no such file")
    fields, size = model_fields(args, fields), chosen_size(fields)
    config = vision_text_config(args.vision_model_name_or_path, args.text_model_name_or_path, **fields)
    try:
        with torch.device("meta"), initialization.no_init_weights():
            model = DualVQAForQuestionAnswering(config)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"no model can be built with this configuration; a tower says {problem}") from error
    check_images(model.eval(), made_size(build_image_processor(args, config.vision_config, size, told=False)))
    count = model.num_parameters()
    if 4 * count > memory_of_machine():
        raise ValueError(
            f"the model would have {count:,} parameters, {4 * count / 2**30:,.1f} GiB, and this machine has "
            f"{memory_of_machine() / 2**30:,.1f} GiB of memory; give smaller sizes"
        )
    limit, positions = args.max_question_length, text_positions(model)
    if args.text_model_name_or_path:
        limit = min(limit, load_tokenizer(args.text_model_name_or_path).model_max_length)
    if positions is not None and limit > positions:
        raise ValueError(
            f"max_question_length is {limit} tokens and the text tower has {positions} positions; give "
            f"--max_question_length {positions}, or a text_config.max_position_embeddings that is larger"
        )


def load_tokenizer(name):
    """The tokenizer of the pretrained text tower `name`.

    Raises:
        OSError, ValueError: there is none, or it needs a package that isn't installed; the message has the tower.
    """
    try:
        with naming_tower(name, "text_config"):
            tokenizer = AutoTokenizer.from_pretrained(name)
            check_tokenizer(tokenizer)
            return tokenizer
    except (ImportError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"the tokenizer of the text tower {name!r} can't be taken: {reason}") from error


def memory_of_machine():
    """Its bytes; infinity where the system doesn't tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf


def text_positions(model):
    """The longest sequence that a model's text tower has positions for, or None where they are relative."""
    for name, module in model.text_encoder.named_modules():
        if name.rpartition(".")[2] == "position_embeddings" and isinstance(module, nn.Embedding):
            first = (
                0 if module.padding_idx is None else module.padding_idx + 1
            )  # RoBERTa counts from behind its padding
            return module.num_embeddings - first
    return None

"""The models of a run: new ones, saved ones, several that answer together, and teachers."""

import copy
import dataclasses
import json
import logging
import math
import os

import torch
from torch import nn
from transformers import AutoImageProcessor, AutoTokenizer, initialization
from transformers.trainer_utils import IntervalStrategy

from dualvqa.deployment.ensemble import EnsembleModel, check_members
from dualvqa.training.embeddings import fingerprint
from dualvqa.training.teacher import find_teacher_logits
from dualvqa.training.trainer import DualVQATrainer
from modeling_dualvqa import DualVQAForQuestionAnswering
from modeling_dualvqa.encoders_dualvqa import is_torchvision_name
from modeling_dualvqa.weights_dualvqa import vision_text_config
from processing import (
    BINARY_ANSWERS,
    AnswerVocabulary,
    DualVQAImageProcessor,
    DualVQAProcessor,
    EnsembleCollator,
    VQACollator,
    difference,
    named_logits,
    train_tokenizer,
)

from .flags import config_fields

logger = logging.getLogger(__name__)

# What `build` reads of the arguments.
NEW_MODELS = {"config", "vision_model_name_or_path", "vision_weights_file", "text_model_name_or_path"}
NEW_MODELS |= {"tokenizer_vocab_size", "max_question_length", "image_size", "image_mean", "image_std"}


def model_fields(args):
    """The fields of a new model's configuration that don't depend on the data."""
    fields = config_fields(args.config)
    if args.single_head:
        fields["heads"] = ["open_ended"]
    if args.image_size:
        vision = fields.get("vision_config") or {}
        fields["vision_config"] = {**vision, "image_size": args.image_size} if isinstance(vision, dict) else vision
    return fields


def check_new_model(args):
    """Makes sure, before the data are read, that the model that the settings ask for can be built.

    Raises:
        ValueError: it can't, or its text tower has fewer positions than questions may have tokens.
        OSError: a pretrained tower isn't there.
    """
    if args.vision_weights_file and not os.path.isfile(args.vision_weights_file):
        raise ValueError(f"--vision_weights_file {args.vision_weights_file}: no such file")
    config = vision_text_config(args.vision_model_name_or_path, args.text_model_name_or_path, **model_fields(args))
    try:
        with torch.device("meta"), initialization.no_init_weights():
            model = DualVQAForQuestionAnswering(config)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"no model can be built with this configuration; a tower says {problem}") from error
    count = model.num_parameters()
    if 4 * count > memory_of_machine():
        raise ValueError(
            f"the model would have {count:,} parameters, {4 * count / 2**30:,.1f} GiB, and this machine has "
            f"{memory_of_machine() / 2**30:,.1f} GiB of memory; give smaller sizes"
        )
    limit, positions = args.max_question_length, text_positions(model)
    if args.text_model_name_or_path:
        limit = min(limit, AutoTokenizer.from_pretrained(args.text_model_name_or_path).model_max_length)
    if positions is not None and limit > positions:
        raise ValueError(
            f"max_question_length is {limit} tokens and the text tower has {positions} positions; give "
            f"--max_question_length {positions}, or a text_config.max_position_embeddings that is larger"
        )


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


def build(args, data_args, summary):
    """A new model and its processor, with a vocabulary and, if need be, a tokenizer from the training part."""
    fields = model_fields(args)
    if args.text_model_name_or_path:
        tokenizer = AutoTokenizer.from_pretrained(args.text_model_name_or_path)
        tokenizer.model_max_length = min(tokenizer.model_max_length, args.max_question_length)
    else:
        tokenizer = train_tokenizer(summary.questions, args.tokenizer_vocab_size, args.max_question_length)
        text_fields = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        fields["text_config"] = {"model_type": "distilbert", **text_fields, **(fields.get("text_config") or {})}
    answers = []
    if "open_ended" in fields.get("heads", ["open_ended"]):
        answers = training_answers(data_args, summary, args.single_head)
        fields["num_answers"] = len(answers)
    model = DualVQAForQuestionAnswering.from_vision_text_pretrained(
        args.vision_model_name_or_path, args.text_model_name_or_path, args.vision_weights_file, **fields
    )
    processor = DualVQAProcessor(build_image_processor(args, model.config.vision_config), tokenizer, answers)
    processor.check_model(model)
    return model, processor


def training_answers(data_args, summary, with_binary=False):
    """The open-ended vocabulary of a training part, most frequent first, with yes and no for a single head.

    Captions have none.
    """
    if not data_args.reads_answers:
        return []
    return AnswerVocabulary.from_training_answers(
        summary.answers.elements(),
        data_args.min_answer_frequency,
        data_args.max_answers,
        with_binary,
        summary.writings,
    ).answers


def build_image_processor(args, vision_config):
    """An image processor with the size, mean and deviation that the vision tower was trained with."""
    settings = {}
    if args.vision_model_name_or_path and not is_torchvision_name(args.vision_model_name_or_path):
        try:
            pretrained = AutoImageProcessor.from_pretrained(args.vision_model_name_or_path)
            settings = {"image_mean": list(pretrained.image_mean), "image_std": list(pretrained.image_std)}
        except (OSError, ValueError, AttributeError):
            if not (args.image_mean and args.image_std):
                logger.warning(
                    "%s says nothing of its image mean and deviation: ImageNet's are taken; give others with "
                    "--image_mean and --image_std",
                    args.vision_model_name_or_path,
                )
    size = args.image_size or getattr(vision_config, "image_size", None) or 224
    height, width = (size, size) if isinstance(size, int) else size
    settings["size"] = {"height": height, "width": width}
    for name in ("image_mean", "image_std"):
        if getattr(args, name):
            settings[name] = getattr(args, name)
    return DualVQAImageProcessor(**settings)


def warn_of_settings_of_new_models(args):
    """Says which settings mean nothing to a saved model, which has its own."""
    fields = [field for field in dataclasses.fields(args) if field.name in NEW_MODELS]
    given = [f"--{field.name}" for field in fields if getattr(args, field.name) != unset(field)]
    if given:
        logger.warning("the saved model keeps its own towers, sizes and tokenizer: %s have no effect", ", ".join(given))


def unset(field):
    """The value of a field that wasn't given."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def load(path):
    """A saved model and its processor.

    Raises:
        ValueError: there is no DualVQA model at `path`, or a processor that isn't the model's.
    """
    config_file = os.path.join(path, "config.json")
    if os.path.isdir(path):
        found = "no config.json"
        if os.path.isfile(config_file):
            with open(config_file, encoding="utf-8") as file:
                try:
                    found = f"model_type {json.load(file)['model_type']!r}"
                except (ValueError, KeyError, TypeError, RecursionError):
                    found = "no model_type in it"
        if found != "model_type 'dualvqa'":
            raise ValueError(f"{path} is no DualVQA model: expected a config.json with model_type 'dualvqa', {found}")
    try:
        model, processor = DualVQAForQuestionAnswering.from_pretrained(path), DualVQAProcessor.from_pretrained(path)
    except OSError as error:  # of a folder that isn't there transformers tells only that the Hub isn't
        raise OSError(f"{path} is neither a saved folder nor a repository that can be reached: {error}") from error
    processor.check_model(model)
    return model, processor


def load_together(paths, average):
    """Saved models that answer together, as one model and its collator; of one path that model and its own.

    Raises:
        ValueError: see `load` and `check_members`.
    """
    models, processors = zip(*map(load, paths))
    collators = [VQACollator(processor) for processor in processors]
    if len(models) == 1:
        return models[0], collators[0]
    check_members(models, processors, average)
    return EnsembleModel(models, average), EnsembleCollator(collators)


def check_teacher(teacher, collator, model, processor):
    """
    Raises:
        ValueError: the teacher has other heads or another vocabulary than the model.
    """
    first = getattr(collator, "collators", [collator])[0]
    problem = difference(first.processor.answers, processor.answers)
    if list(teacher.config.heads) != list(model.config.heads):
        problem = f"heads {list(teacher.config.heads)} and {list(model.config.heads)}"
    if problem:
        raise ValueError(
            f"the teacher and the model to be trained differ: {problem}; a teacher must know the same answers in the "
            f"same order, so train it on the same training part"
        )


def ask_teacher(teacher, collator, rows, processor, training_args):
    """[`TeacherLogits`] of the training rows: computed once, kept in OUTPUT_DIR/teacher."""
    args = copy.copy(training_args)
    args.class_weighting, args.eval_strategy = "none", IntervalStrategy.NO

    def compute():
        asking = DualVQATrainer(model=teacher, args=args, data_collator=collator, processing_class=processor)
        arrays = asking.predict(rows).predictions
        named = named_logits(arrays, processor)
        return {task: named[f"{task}_logits"].contiguous() for task in teacher.config.heads}

    settings = [str(c.processor) for c in getattr(collator, "collators", [collator])]
    folder = os.path.join(args.output_dir, "teacher")
    with args.main_process_first(desc="asking the teacher"):
        return find_teacher_logits(folder, fingerprint(teacher, *settings), rows, compute)


def renew_answers(model, processor, data_args, summary):
    """Gives a loaded model the vocabulary of another data set, and a new open-ended head for it."""
    with_binary = not set(BINARY_ANSWERS).isdisjoint(AnswerVocabulary(processor.answers).index)
    processor.answers = training_answers(data_args, summary, with_binary)
    model.reset_open_ended_head(len(processor.answers))


def check_vocabulary(summary, processor, model):
    """Refuses to go on from a model that knows none of the open-ended answers it is to be trained on."""
    known = len(processor.answers)
    coverage = AnswerVocabulary(processor.answers).coverage(summary.answers.elements())
    if model.open_ended_head is not None and coverage == 0:
        raise ValueError(
            f"none of the open-ended training answers is among the {known} that the saved model knows; give "
            f"--new_answers to train a new open-ended head"
        )

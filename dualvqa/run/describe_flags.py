"""Writes flags.json, what the command line knows of the settings: python -m dualvqa.run.describe_flags"""

import dataclasses
import enum
import json
import sys
import types
import typing

import transformers
from transformers import TrainingArguments

from modeling_dualvqa import DualVQAConfig
from modeling_dualvqa.values_dualvqa import NAMED, kinds_of

from .arguments import GROUPS
from .flags import KINDS, PATH

# Of TrainingArguments, those that a run often has.
OFTEN = """output_dir do_train do_eval do_predict num_train_epochs max_steps per_device_train_batch_size
per_device_eval_batch_size gradient_accumulation_steps learning_rate weight_decay lr_scheduler_type warmup_steps seed
bf16 use_cpu eval_strategy save_strategy save_total_limit load_best_model_at_end metric_for_best_model logging_steps
report_to resume_from_checkpoint push_to_hub hub_model_id dataloader_num_workers""".split()
OFTEN_TITLE = "Run (of transformers' TrainingArguments)"
OTHERS_TITLE = "All other TrainingArguments of transformers"
TITLES = {  # of the classes' flags, in the order of reading
    "DataArguments": "Data",
    "ModelArguments": "Model",
    "NewModelArguments": "New model",
    "AugmentationArguments": "Augmentation",
    "DualVQATrainingArguments": "Training",
    "FurtherArguments": "Caches, what is learned besides, report",
    "CalibrationArguments": "Calibration",
}
NAMES = {kind: name for name, kind in KINDS.items()}
SHORT = {  # the help of transformers' fields is paragraphs long, or speaks of what is otherwise here
    "output_dir": "Folder of the run: the model and all that is measured.",
    "do_train": "Train.",
    "do_eval": "Evaluate the validation and test parts, and write a report.",
    "do_predict": "Answer the questions of the test part: predictions.jsonl.",
    "resume_from_checkpoint": "Go on from a checkpoint: its folder, a run's folder, or true for this run's newest.",
    "metric_for_best_model": "Figure of an evaluation that chooses the best checkpoint, such as routed_accuracy.",
    "max_steps": "Steps of training, in place of --num_train_epochs.",
    "learning_rate": "Largest learning rate.",
    "lr_scheduler_type": "How the learning rate goes on from there.",
    "warmup_steps": "Steps in which the learning rate grows from 0.",
    "weight_decay": "Weight decay of the optimizer.",
    "gradient_accumulation_steps": "Batches of a step.",
    "per_device_train_batch_size": "Questions of a batch, on each device.",
    "per_device_eval_batch_size": "The same for evaluation and prediction.",
    "num_train_epochs": "Passes over the training part.",
    "bf16": "Train in bfloat16 mixed precision.",
    "use_cpu": "Use no GPU.",
    "seed": "Seed of new weights, order and augmentation.",
    "logging_steps": "Steps between logged figures.",
    "eval_strategy": "When to evaluate while training.",
    "save_strategy": "When to write checkpoints.",
    "save_total_limit": "Checkpoints that are kept.",
    "load_best_model_at_end": "Keep the best checkpoint's weights, not the last.",
    "push_to_hub": "Push the saved folder to the Hub.",
    "hub_model_id": "Its name there.",
    "report_to": "Where figures are logged: none, tensorboard, wandb, trackio and others.",
    "dataloader_num_workers": "Processes that make batches; chosen from the machine when left out.",
}


def describe():
    """What flags.json holds: the groups of flags in the order of reading, and the fields of DualVQAConfig."""
    groups = {}
    for settings_class in GROUPS:
        for field, kind, owner in fields_of(settings_class):
            title = title_of(field, owner)
            if not any(field.name in flags for flags in groups.values()):
                groups.setdefault(title, {})[field.name] = describe_field(field, kind, owner)
    groups[OFTEN_TITLE] = {name: groups[OFTEN_TITLE][name] for name in OFTEN}
    order = [OFTEN_TITLE, *TITLES.values()]
    order += [title for title in groups if title not in (*order, OTHERS_TITLE)]
    order = [title for title in [*order, OTHERS_TITLE] if title in groups]
    return {
        "transformers": transformers.__version__,
        "groups": [{"title": title, "flags": groups[title]} for title in order],
        "config": list(DualVQAConfig.__annotations__),
    }


def fields_of(settings_class):
    """Each field with its type and the class that declares it, or that first declared it."""
    kinds = kinds_of(settings_class)
    for field in dataclasses.fields(settings_class):
        if field.init:
            owners = [base for base in settings_class.__mro__ if field.name in vars(base).get("__annotations__", {})]
            yield field, kinds[field.name], owners[-1]


def title_of(field, owner):
    if field.name in OFTEN:
        return OFTEN_TITLE
    return OTHERS_TITLE if issubclass(TrainingArguments, owner) else TITLES.get(owner.__name__, owner.__name__)


def describe_field(field, kind, owner):
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    text = " ".join(str(field.metadata.get("help", "")).split())
    if issubclass(TrainingArguments, owner):
        text = SHORT.get(field.name) or text.partition(". ")[0].rstrip(".") + "."
    return {
        "kind": kind_names(kind),
        "default": default.value if isinstance(default, enum.Enum) else default,
        "limits": limits_of(field, kind),
        "help": text,
    }


def kind_names(kind):
    """A type as the names of flags.json: float | None -> ["float", "null"]."""
    kind = NAMED.get(kind, str) if isinstance(kind, str) else kind
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        names = {name for part in typing.get_args(kind) for name in kind_names(part)}
        return sorted(names, key=lambda name: (name == "null", name))
    if typing.get_origin(kind) is typing.Literal:
        return sorted({NAMES[type(value)] for value in typing.get_args(kind)})
    if kind in NAMES:
        return [NAMES[kind]]
    return [NAMES.get(typing.get_origin(kind), "str")]  # an enumeration comes as text


def limits_of(field, kind):
    """The field's range or choices: from the LIMITS beside the classes, or an enumeration's."""
    for module in dict.fromkeys(base.__module__ for group in GROUPS for base in group.__mro__):
        limits = getattr(sys.modules[module], "LIMITS", {}).get(field.name)
        if limits:
            return list(limits) if isinstance(limits, tuple) else limits
    for part in (kind, *typing.get_args(kind)):
        if isinstance(part, type) and issubclass(part, enum.Enum):
            return [member.value for member in part]
    return None


def as_text(description):
    """The JSON, a line for each flag, so that a change of one is a change of one line."""
    groups = [
        f'{{"title": {json.dumps(group["title"])}, "flags": {{\n'
        + ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in group["flags"].items())
        + "}}"
        for group in description["groups"]
    ]
    rest = json.dumps({name: value for name, value in description.items() if name != "groups"})
    return f'{rest[:-1]}, "groups": [\n' + ",\n".join(groups) + "]}\n"


if __name__ == "__main__":
    PATH.write_text(as_text(describe()), encoding="utf-8")

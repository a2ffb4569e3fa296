"""What a run records for the model card: where the data came from, how it was trained, what it reached."""

import dataclasses
import json
import os
import platform
from collections import Counter
from importlib.metadata import version

from processing import AugmentationArguments, majority_answers
from processing.answers import as_list, question_type_of
from processing.processing_dualvqa import QUESTION_TYPES

LOSSES = ("binary", "open_ended", "question_type")
FIGURES = ("routed_", "oracle_", "majority_", "router_accuracy", "coverage", "calibration_", "abstention_")
FIGURES += ("unanswerable_", "gqa_")  # see processing/own_scores.py

CUT = {  # by DataArguments.split_by
    "image": "the training images",
    "question": "the training questions, rewordings together",
    "wording": "the wordings of training questions that are asked in several",
}


def run_record(start, training_args, data_args, data):
    """The record of a run before it starts, as `DualVQAConfig.model_card` keeps it.

    Args:
        start: the model's [`Start`].
        training_args, data_args: the run's [`DualVQATrainingArguments`] and [`DataArguments`].
        data: for each part what `describe_part` gives.
    """
    starts = (start.continued_from, start.vision, start.text)
    from_hub = data_args.dataset_name if not data_args.files and "/" in (data_args.dataset_name or "") else None
    return {
        "license": training_args.license,
        "base_model": [name for name in starts if name and "/" in name and not os.path.exists(name)],
        "datasets": [from_hub] if from_hub else [],
        "data": data,
        "columns": None if data_args.pretrain else data_args.found_columns,
        "settings": describe_settings(start, data_args, training_args),
        "results": {},
        "pretraining": data_args.pretrain,
    }


def describe_part(name, rows, vocabulary, summary=None, data_args=None, binary=True):
    """Size and source of a part. Files are named without their folders, which are nobody else's business.

    Args:
        name: "train", "validation" or "test".
        rows: its canonical rows.
        vocabulary: the open-ended [`AnswerVocabulary`].
        summary: the training part's [`TrainingSummary`].
        data_args: [`DataArguments`], which name the source.
        binary: whether the model has a head for yes and no.
    """
    file = data_args.files.get(name) or (data_args.files.get("train") if name == "validation" else None)
    row = {"part": name, "source": os.path.basename(file) if file else data_args.dataset_name or "given in Python"}
    if name == "train":
        row |= {"questions": summary.rows, "images": summary.images}
        row["coverage"] = vocabulary.coverage(summary.answers.elements())
        row["majority"] = describe_majority(summary)
    else:
        row |= {"questions": len(rows), "images": len(set(rows["image_key"][:]))}
        if "answer" in rows.column_names:
            answers = rows["answer"][:]
            row["coverage"] = vocabulary.coverage(answers, binary)
            row["people"] = max((len(as_list(answer)) for answer in answers), default=0)
    return row


def describe_majority(summary):
    """The most frequent training answer of each question type, as most people wrote it, with its share of that type's
    questions.

    Args:
        summary: the training part's [`TrainingSummary`].
    """
    counts, sizes = summary.answers, Counter()
    for answer, count in counts.items():
        sizes[QUESTION_TYPES[question_type_of(answer)]] += count
    majority = majority_answers(counts.elements())
    return {
        kind: {"answer": summary.written(answer), "share": round(counts[answer] / sizes[kind], 6)}
        for kind, answer in sorted(majority.items())
    }


def remembered_columns(model):
    """image, question, answer -> the column that a saved model was trained with; None where it isn't known."""
    return (getattr(getattr(model, "config", None), "model_card", None) or {}).get("columns")


def recorded_majority(record):
    """question type -> the most frequent training answer, as a model's record has it; {} where it isn't known."""
    rows = [row for row in (record or {}).get("data") or () if row["part"] == "train"]
    return {kind: found["answer"] for row in rows for kind, found in (row.get("majority") or {}).items()}


def describe_settings(start, data_args, training_args):
    """The settings that someone needs to train the same model: [name, value] in the order of reading."""
    rates = {name: getattr(training_args, f"{name}learning_rate") for name in ("", "vision_", "text_")}
    batch = training_args.per_device_train_batch_size
    best = training_args.metric_for_best_model if training_args.load_best_model_at_end else None
    settings = {
        "preset": start.preset and f"{start.preset.name} ({start.preset.why})",
        "vision tower": start.vision and os.path.basename(start.vision),
        "text tower": start.text and os.path.basename(start.text),
        "continued from": start.continued_from and os.path.basename(os.path.normpath(start.continued_from)),
        "configuration": ", ".join(f"{name} {value}" for name, value in flat(start.fields)),
        "frozen parameters": training_args.freeze_parameters,
        "teacher": training_args.teacher
        and f"{', '.join(map(os.path.basename, training_args.teacher))}, temperature "
        f"{training_args.distillation_temperature:g}, weight {training_args.distillation_weight:g}",
        "pre-training": data_args.pretrain,
        "text": data_args.pretrain and (data_args.pretrain_text_column or "question and answer"),
        "rows left out": " ".join(data_args.exclude_rows),
        "training questions used": f"{data_args.train_fraction:.0%}" if data_args.train_fraction < 1 else None,
        "validation part": validation_part(data_args),
        "checkpoint": best
        and f"the one with the best {best} on the validation part, whose own results are therefore optimistic",
        "seed": training_args.seed,
        "epochs": training_args.num_train_epochs if training_args.max_steps <= 0 else None,
        "steps": training_args.max_steps if training_args.max_steps > 0 else None,
        "batch": f"{batch} x {training_args.gradient_accumulation_steps} steps x {training_args.world_size} processes",
        "questions per image": training_args.questions_per_image or None,
        **{f"{task}_loss_weight": getattr(training_args, f"{task}_loss_weight") for task in LOSSES},
        "task weighting": describe_task_weighting(training_args),
        "auxiliary targets": training_args.auxiliary_columns
        and f"{', '.join(training_args.auxiliary_columns)}, weight {training_args.auxiliary_loss_weight:g}",
        "balanced sampling": training_args.balanced_sampling or None,
        "class weighting": None if training_args.class_weighting == "none" else training_args.class_weighting,
        "target": f"soft, {data_args.soft_score}" if data_args.target == "soft" else None,
        "label smoothing": training_args.label_smoothing_factor or None,
        **{f"{name}learning_rate": rate for name, rate in rates.items()},
        "learning rate schedule": training_args.lr_scheduler_type.value,
        "warm-up steps": training_args.warmup_steps,
        "optimizer": str(getattr(training_args.optim, "value", training_args.optim)),
        "weight decay": training_args.weight_decay,
        "precision": "bf16" if training_args.bf16 else "fp16" if training_args.fp16 else "fp32",
        "augmentation": ", ".join(
            f"{field.name} {getattr(training_args, field.name)}" for field in dataclasses.fields(AugmentationArguments)
        ),
        "machine": f"{training_args.device.type}, {os.cpu_count()} cores, {platform.machine()}",
        "software": ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "torchvision")),
    }
    return [[name.replace("_", " "), value] for name, value in settings.items() if value not in (None, "", [])]


def flat(fields, prefix=""):
    """(name, value) of nested fields, as they are written for --config: {"a": {"b": 1}} -> ("a.b", 1)."""
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value, default=str).strip('"')


def validation_part(data_args):
    """How the validation part was cut off the training part, or None where it is a part of its own."""
    if not data_args.cuts_validation:
        return None
    share = f"fold {data_args.fold} of {data_args.folds}" if data_args.folds else f"{data_args.validation_fraction:.0%}"
    return f"{share} of {CUT[data_args.split_by]}, split seed {data_args.split_seed}"


def describe_task_weighting(training_args):
    if training_args.task_weighting != "schedule":
        return None if training_args.task_weighting == "fixed" else training_args.task_weighting
    rows = " ".join(training_args.task_weighting_schedule)
    return f"schedule {rows}{', linear' if training_args.task_weighting_linear else ''}"


def figures(metrics, prefix):
    """Those of the Trainer's metrics that a card shows, without the Trainer's prefix."""
    kept = {
        name.removeprefix(f"{prefix}_"): value
        for name, value in metrics.items()
        if name.removeprefix(f"{prefix}_").startswith(FIGURES) or prefix == "calibration"
    }
    return {name: value if isinstance(value, str) else round(value, 6) for name, value in kept.items()}

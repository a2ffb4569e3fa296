"""What a teacher says of the training rows: its logits, computed once and kept in a file."""

import copy
import hashlib
import json
import logging
import os

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers.trainer_utils import IntervalStrategy

from processing import AnswerRules, difference, named_logits

from .embeddings import fingerprint

logger = logging.getLogger(__name__)

FILE = "logits.safetensors"


class TeacherLogits:
    """The teacher's part of a batch.

    Args:
        rows: the `row` of each training question.
        logits: head -> (rows, N).
    """

    def __init__(self, rows, logits):
        self.places = {row: place for place, row in enumerate(rows)}
        self.logits = logits

    def batch(self, rows):
        """`teacher_<head>_logits` (B, N) of canonical rows."""
        places = torch.tensor([self.places[row["row"]] for row in rows])
        return {f"teacher_{head}_logits": logits[places] for head, logits in self.logits.items()}


def find_teacher_logits(folder, fingerprint, rows, compute):
    """The [`TeacherLogits`] of a training part, from the folder where it has them.

    Args:
        folder: where the file is or goes; where it can't be written the logits stay in memory.
        fingerprint: of the teachers' weights and settings.
        rows: canonical training rows.
        compute: function without arguments -> head -> (rows, N) tensor, in the order of the rows.
    """
    digest = hashlib.sha256(fingerprint.encode())
    for row, key, question in zip(rows["row"][:], rows["image_key"][:], rows["question"][:]):
        digest.update(json.dumps([row, key, question]).encode())
    wanted, path = digest.hexdigest(), os.path.join(folder, FILE)
    logits = read(path, wanted)
    if logits is None:
        logger.info("computing the teacher's logits of %d questions once", len(rows))
        logits = compute()
        try:
            os.makedirs(folder, exist_ok=True)
            metadata = {"fingerprint": wanted, "checksum": checksum(logits)}
            save_file(logits, f"{path}.tmp", metadata=metadata)
            os.replace(f"{path}.tmp", path)
        except (OSError, SafetensorError) as error:
            logger.warning("%s can't be written (%s): the teacher's logits stay in memory", path, error)
    return TeacherLogits(rows["row"][:], logits)


def read(path, wanted):
    """The logits of a file, or None where there is none of that fingerprint."""
    if not os.path.isfile(path):
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata, logits = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
        problem = "they are of another teacher or other rows"
        if metadata.get("fingerprint") == wanted:
            if metadata.get("checksum") == checksum(logits):
                return logits
            problem = "they are not as they were written"
    except (OSError, SafetensorError) as error:
        problem = error
    logger.warning("the teacher's logits in %s are computed again: %s", path, problem)
    return None


def checksum(logits):
    """Hash of named tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(logits.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def check_teacher(teacher, collator, model, processor):
    """
    Raises:
        ValueError: the teacher has other heads or another vocabulary than the model.
    """
    for member in getattr(teacher, "models", [teacher]):
        member.forget_memory()  # it holds the very rows that are to be taught
    first = getattr(collator, "collators", [collator])[0]
    problem = difference(first.processor.answers, processor.answers, AnswerRules.of(processor))
    if list(teacher.config.heads) != list(model.config.heads):
        problem = f"heads {list(teacher.config.heads)} and {list(model.config.heads)}"
    if problem:
        raise ValueError(
            f"the teacher and the model to be trained differ: {problem}; a teacher must know the same answers in the "
            f"same order, so train it on the same training part"
        )


def ask_teacher(trainer_class, teaching, trainer):
    """[`TeacherLogits`] of the training rows of a trainer: computed once, kept in OUTPUT_DIR/teacher.

    Args:
        trainer_class: of the trainer that predicts.
        teaching: the teacher and its collator.
        trainer: of the student.
    """
    (teacher, collator), rows, processor = teaching, trainer.train_dataset, trainer.processing_class
    args = copy.copy(trainer.args)
    args.class_weighting, args.eval_strategy, args.early_stopping_patience = "none", IntervalStrategy.NO, None

    def compute():
        asking = trainer_class(
            model=teacher, args=args, data_collator=collator, processing_class=processor, compute_metrics=None
        )
        named = named_logits(asking.predict(rows, metric_key_prefix="teacher").predictions, processor)
        return {task: named[f"{task}_logits"].contiguous() for task in teacher.config.heads}

    settings = [str(c.processor) for c in getattr(collator, "collators", [collator])]
    folder = os.path.join(args.output_dir, "teacher")
    with args.main_process_first(desc="asking the teacher"):
        return find_teacher_logits(folder, fingerprint(teacher, *settings), rows, compute)

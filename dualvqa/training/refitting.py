"""Training anew on all questions, after everything that needs held-out ones was chosen and measured."""

import copy
import logging
import os
import shutil
from pathlib import Path

from datasets import Sequence, Value, concatenate_datasets
from transformers import TrainerCallback

from processing import AnswerVocabulary, StreamedRows, question_type_of
from processing.answers import as_list

from .checkpoints import newest_checkpoint

logger = logging.getLogger(__name__)

FOLDER = "refit"


class StopAfter(TrainerCallback):
    """Ends training after so many steps, whatever its schedule is planned for."""

    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = control.should_training_stop or state.global_step >= self.steps


def check_refit(trainer):
    """
    Raises:
        ValueError: there is nothing to add to the training part, or it isn't possible.
    """
    parts, reason = trainer.parts(), None
    if not trainer.complete or "validation" not in parts or "answer" not in parts["validation"].column_names:
        reason = "there is no validation part with answers, so all questions are trained on already; leave refit out"
    elif "train" not in parts or isinstance(trainer.train_dataset, StreamedRows):
        reason = "it needs a training part that isn't streamed"
    elif trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        reason = "DeepSpeed and FSDP spread the model over processes; refit with DDP or in one process"
    else:
        names = [name for name in trainer.args.auxiliary_columns if name not in parts["validation"].column_names]
        reason = f"the validation part lacks the auxiliary columns {', '.join(names)}" if names else None
    if reason:
        raise ValueError(f"refit trains anew on the training and the validation part together: {reason}")


def all_rows(trainer):
    """The training and the validation part as one, with the columns that both have."""
    parts = [trainer.parts()[name] for name in ("train", "validation")]
    if any(not isinstance(part.features["answer"], Value) for part in parts):  # of one several people's, of one not
        feature = Sequence(Value("string"))
        parts = [
            part.remove_columns("answer").add_column("answer", list(map(as_list, part["answer"][:])), feature=feature)
            for part in parts
        ]
    one, other = (part.features for part in parts)
    shared = [name for name in one if name in other and one[name] == other[name]]
    return concatenate_datasets([part.select_columns(shared) for part in parts])


def steps_of(trainer):
    """After how many steps a trainer's model was as it is: those of its best state, if it was set back to that."""
    state = trainer.state
    best = trainer.args.load_best_model_at_end and state.best_model_checkpoint
    return int(best.rpartition("-")[2]) if best else state.global_step


def refit(trainer, start):
    """Trains a copy of what a trainer's model was at its start on all rows.

    The schedule is that of the first training, and it ends after as many steps as that model had. All that is written
    is in a folder of its own: the first model stays as it is.

    Args:
        trainer: a [`DualHeadTrainer`] that has trained.
        start: the model as it was before.

    Returns:
        The trained model, the rows that it was trained on, and after how many steps it ended.
    """
    rows, steps, args = all_rows(trainer), steps_of(trainer), copy.copy(trainer.args)
    own = trainer.args.output_dir
    args.output_dir = os.path.join(own, FOLDER)
    args.image_cache_dir = args.image_cache_dir or os.path.join(own, "image_cache")
    args.push_to_hub, args.report_to = False, []
    args.report_blind = args.refit = args.memory = False
    args.max_steps = trainer.state.max_steps
    args.eval_strategy, args.load_best_model_at_end, args.early_stopping_patience = "no", False, None
    args.save_strategy = "epoch" if args.save_strategy == "best" else args.save_strategy
    processor = trainer.processing_class
    vocabulary = AnswerVocabulary.of(processor)
    answers = map(vocabulary.rules.consensus, trainer.parts()["validation"]["answer"][:])
    unknown = sum(question_type_of(answer) == 1 and answer not in vocabulary.index for answer in answers)
    if unknown:
        logger.info(
            "%d validation questions have an answer that no head has: the refit learns nothing from them", unknown
        )
    again = type(trainer)(
        model=copy_of_start(start),
        args=args,
        train_dataset=rows,
        processing_class=processor.without_calibration(),
        data_args=trainer.data_args,
        callbacks=[StopAfter(steps)],
    )
    again.described = True
    embeddings = getattr(trainer.data_collator, "embeddings", None)
    if embeddings is not None:  # of both parts already
        again.data_collator.embeddings = again.train_collator.embeddings = embeddings
    logger.info("training anew on all %d questions, for %d steps", len(rows), steps)
    again.train(resume_from_checkpoint=newest_checkpoint(args.output_dir) if trainer.checkpoint else None)
    return again.accelerator.unwrap_model(again.model), rows, steps


def forget_retrainings(folder):
    """Takes away checkpoints of trainings that belong to an earlier run in this folder: none is to be gone on from."""
    for name in (FOLDER, "blind"):
        for path in Path(folder, name).glob("checkpoint-*"):
            shutil.rmtree(path, ignore_errors=True)


def remove_refit(folder):
    """Takes away what a finished refit has left beside the model that it became."""
    shutil.rmtree(os.path.join(folder, FOLDER), ignore_errors=True)


def copy_of_start(model):
    """A model as it starts, for a further training with arguments that have what a preset says already."""
    model = copy.deepcopy(model)
    if getattr(model, "start", None):
        model.start.to_train = False
    return model

"""The trainer of a run, and its training."""

from dualvqa.trainer import DualVQATrainer
from dualvqa.training.contrastive import ContrastiveTrainer
from dualvqa.training.failures import model_is_kept
from dualvqa.training.freezing import freeze_parameters
from dualvqa.training.refitting import check_refit
from dualvqa.training.selection import check_selection

from .calibrate import wants_calibration
from .terminal import memory_line, show_figures


def prepare_trainer(run):
    """Makes the trainer, and logs what it is about to train on.

    Raises:
        ValueError: see `DualVQATrainer`, `check_selection` and `wants_calibration`.
    """
    data, training = run.settings.data, run.settings.training
    trainer_class = ContrastiveTrainer if data.pretrain else DualVQATrainer
    run.trainer = trainer_class(
        model=run.model,
        args=training,
        train_dataset=run.parts.get("train"),
        eval_dataset=run.parts.get("validation"),
        processing_class=run.processor,
        data_args=data,
        **({"data_collator": run.together[1]} if run.together else {}),
    )
    types = run.trainer.evaluated_types()
    if types:
        check_selection(training, data.pretrain, run.model.config.heads, types)
    if training.do_train:
        freeze_parameters(run.model, training.freeze_parameters)  # so that those that are trained are counted
    if training.refit:
        check_refit(run.trainer)
    if training.cross_fit and training.do_train:
        run.trainer.check_cross_fit()
    test = {name: run.parts[name] for name in ("test",) if name in run.parts}
    run.trainer.describe_data(test, training.do_train)
    run.calibrating = wants_calibration(run)


def train(run):
    """Trains, and leaves the whole folder, in which the model stays whatever goes wrong afterwards."""
    if run.settings.training.do_train:
        result = run.trainer.train(resume_from_checkpoint=run.checkpoint)
        if run.trainer.is_world_process_zero():
            show_figures("train", result.metrics)
            memory = run.model.config.memory
            if memory:
                print(f"\n{memory_line(memory, run.model.config.model_card)}", flush=True)
        training = run.settings.training
        if training.cross_fit:  # the model has no held-out questions of its own
            kept = model_is_kept(training.output_dir, "from the folds' files with --resume_from_checkpoint true")
        else:
            kept = model_is_kept(training.output_dir)
        run.held.enter_context(kept)

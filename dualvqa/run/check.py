"""Before anything is read: settings that don't go together, a folder that is in use, a checkpoint that isn't whole."""

import logging

from transformers import set_seed

from dualvqa.training.checkpoints import find_checkpoint, refuse_other_runs
from dualvqa.training.contrastive import MEASURED
from dualvqa.training.output_folder import claimed
from dualvqa.training.selection import check_selection

logger = logging.getLogger(__name__)


def check_settings(run):
    """Checks the settings and claims the output folder.

    Raises:
        ValueError: see `check_selection`, `claimed` and `find_checkpoint`.
    """
    data, training = run.settings.data, run.settings.training
    if data.pretrain:
        select_by_loss(training)
    check_selection(training, data.pretrain)
    if training.should_save:
        run.held.enter_context(claimed(training.output_dir))
    run.checkpoint = find_checkpoint(training.resume_from_checkpoint, training.output_dir)
    if training.do_train and training.average_checkpoints:
        refuse_other_runs(training.output_dir, run.checkpoint)
    set_seed(training.seed)


def select_by_loss(training_args):
    """Lets pre-training choose the best state by its own figures: it has no accuracies."""
    metric = (training_args.metric_for_best_model or "loss").removeprefix("eval_")
    if metric not in MEASURED:
        logger.warning("pre-training has no %s: the best state is that with the lowest eval_loss", metric)
        training_args.metric_for_best_model, training_args.greater_is_better = "loss", False

"""Which state of a run is its best, and when it stops early: what an evaluation must give for that."""

from processing.metrics import check_best_metric
from processing.processing_dualvqa import QUESTION_TYPES


def check_selection(training_args, pretrain=False, heads=QUESTION_TYPES, types=QUESTION_TYPES):
    """Refuses to choose a best state, or to stop early, by what an evaluation doesn't give.

    Args:
        pretrain: whether the run only pre-trains, which has figures of its own.
        heads, types: of the model and of the validation rows, where they are known.

    Raises:
        ValueError: as said.
    """
    if not training_args.do_train:  # a recipe has these settings also where it only evaluates
        return
    metric, patience = training_args.metric_for_best_model, training_args.early_stopping_patience
    chosen = training_args.load_best_model_at_end or training_args.save_strategy == "best" or patience
    if chosen and not pretrain:
        check_best_metric(metric, heads, types)
    if not patience:
        return
    for lacks, need in (
        (training_args.eval_strategy == "no", "evaluations while training: give eval_strategy epoch or steps"),
        (metric is None, "metric_for_best_model, which it watches, such as routed_accuracy"),
        (
            not training_args.load_best_model_at_end,
            "load_best_model_at_end, or the last state is kept and not the best",
        ),
    ):
        if lacks:
            raise ValueError(f"early_stopping_patience {patience} needs {need}")

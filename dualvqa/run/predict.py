"""The test part of a run: its figures, and the file of predictions."""

import os

from processing import AnswerRules, held_out

from .terminal import show_figures


def predict(run):
    """Evaluates the test part where it has answers, and writes predictions.jsonl where that is asked for."""
    args, training = run.settings.model, run.settings.training
    if "test" not in run.parts or not (training.do_eval or training.do_predict):
        return
    rows = run.parts["test"]
    if "answer" in rows.column_names and run.trainer.compute_metrics is not None:
        metrics = run.trainer.evaluate(rows, metric_key_prefix="test")
        if run.trainer.is_world_process_zero():
            show_figures("test", metrics, rows, held_out(run.trainer.leakage(rows)), AnswerRules.of(run.processor))
    if training.do_predict:
        path = os.path.join(training.output_dir, "predictions.jsonl")
        run.trainer.write_predictions(rows, path, args.top_k, source=run.raw["test"])

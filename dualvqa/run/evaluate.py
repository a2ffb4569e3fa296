"""The evaluation of a run's validation part."""

from processing import AnswerRules, held_out

from .terminal import show_figures


def evaluate(run):
    """Evaluates the validation part, if there is one, and shows what was reached."""
    if run.settings.training.do_eval and "validation" in run.parts:
        metrics = run.trainer.evaluate()
        if run.trainer.is_world_process_zero():
            rows = run.parts["validation"]
            show_figures("eval", metrics, rows, held_out(run.trainer.leakage(rows)), AnswerRules.of(run.processor))

"""The report of a run."""

from dualvqa.training.failures import only_warned


def report(run):
    """Writes the report, if it is wanted and something was evaluated. What goes wrong there takes no result away."""
    data, training = run.settings.data, run.settings.training
    if training.do_eval and run.settings.model.report and not data.pretrain and run.trainer.last_outputs:
        with only_warned("no report"):
            run.trainer.write_report()

"""The second training of a run, on all of its questions."""

from .report import report


def refit(run):
    """Trains anew on all questions, if that is asked for, once what was reached before is written."""
    if run.settings.training.refit:
        report(run)
        run.trainer.refit()
        if run.trainer.is_world_process_zero():
            known = run.trainer.refitted_on
            print(
                f"\nTrained anew on all {len(known):,} questions. The figures above are those of the model before, "
                f"which was not trained on the validation part.",
                flush=True,
            )

"""What the trust pages need of a trainer: its arrays for some rows."""


def predict(trainer, rows, ignore_keys=None):
    """The Trainer's arrays for all rows, in their order, without the metrics, which are those of another part."""
    metrics, trainer.compute_metrics = trainer.compute_metrics, None
    try:
        return trainer.predict(rows, ignore_keys=ignore_keys, metric_key_prefix="calibration").predictions
    finally:
        trainer.compute_metrics = metrics

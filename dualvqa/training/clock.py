"""Seconds by a clock that nobody sets, in place of the wall clock's that transformers takes."""


def measured(metrics, seconds):
    """Corrects `<prefix>_runtime` and the speeds that were computed from it, in place.

    Args:
        metrics: of training, evaluation or prediction.
        seconds: how long it took by `time.perf_counter`.
    """
    for name in [name for name in metrics if name.endswith("_runtime")]:
        wrong, metrics[name] = metrics[name], round(seconds, 4)
        for unit in ("samples", "steps"):
            speed = f"{name.removesuffix('_runtime')}_{unit}_per_second"
            if speed in metrics and seconds > 0:
                metrics[speed] = round(metrics[speed] * wrong / seconds, 3)

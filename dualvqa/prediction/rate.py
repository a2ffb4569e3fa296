"""How fast questions are answered, and how long the rest will take."""

import logging
import time

logger = logging.getLogger(__name__)

INTERVAL = 30  # seconds between two messages


class Rate:
    """Counts the questions of a run, and says in the log how it goes.

    Args:
        total: rows that the output will have, None where that isn't known.
        before: those that an earlier run has written.
    """

    def __init__(self, total, before=0):
        self.total, self.before, self.answered = total, before, 0
        self.start = self.told = time.monotonic()

    @property
    def seconds(self):
        return max(time.monotonic() - self.start, 1e-9)

    @property
    def per_second(self):
        return self.answered / self.seconds

    def add(self, questions):
        self.answered += questions
        if time.monotonic() - self.told >= INTERVAL:
            self.told = time.monotonic()
            logger.info("%s", self.line())

    def line(self):
        done = self.before + self.answered
        if self.total is None:
            return f"{done:,} questions, {self.per_second:,.0f} a second"
        left = (self.total - done) / max(self.per_second, 1e-9)
        share = f"{done:,} of {self.total:,} questions ({done / max(self.total, 1):.1%})"
        return f"{share}, {self.per_second:,.0f} a second, {words(left)} left"

    def tell_end(self, output, bad):
        unanswered = f"; {bad:,} rows could not be answered: they have the reason as `error`" if bad else ""
        logger.info(
            "%s: %s questions in %s, %s a second%s",
            *(output, f"{self.answered:,}", words(self.seconds), f"{self.per_second:,.0f}", unanswered),
        )


def words(seconds):
    """Seconds as a person says them."""
    seconds = round(seconds)
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h {seconds % 3600 // 60} min"

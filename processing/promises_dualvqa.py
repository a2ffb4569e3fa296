"""What is promised of a question's answers: which score is high enough to answer, and which answers are a set."""

import math
import numbers


class Promises:
    """What a call asks for of a calibration's `abstention` and `sets`. In plain numbers: all runtimes use it.

    Either may be made for each group of questions: it then has `by`, "head" or the name of a column, and `groups`, name
    -> what it would be for all, or None for a group that nothing can be promised of.

    Args:
        calibration: see [`DualVQAProcessor`].
        abstain: whether questions below the threshold are left unanswered; None does so where there is one, but not
            where `coverage` is given.
        coverage: the share of questions whose right answer is to be among those given; None for no promise.
        group: of the questions, for promises that were made by a column. Of one that isn't given nothing is promised.

    Raises:
        ValueError: there is no threshold, or no set of this coverage; the message says the largest that there is.
    """

    def __init__(self, calibration, abstain=None, coverage=None, group=None):
        calibration, self.group, self.coverage = calibration or {}, group, coverage
        if abstain is not None and not isinstance(abstain, bool):
            raise ValueError(f"abstain must be True, False or None, found {abstain!r:.100}")
        self.abstention, self.sets = calibration.get("abstention"), calibration.get("sets")
        if abstain and self.abstention is None:
            raise ValueError(
                "abstain=True needs a threshold, and this model has none: choose one with dualvqa calibrate FOLDER "
                "--max_risk 0.1 --validation_file FILE, and export an exported model again"
            )
        if abstain is False or (abstain is None and coverage is not None):
            self.abstention = None
        if coverage is not None:
            self.check_coverage()

    def check_coverage(self):
        number = isinstance(self.coverage, numbers.Real) and not isinstance(self.coverage, bool)
        if not number or not 0 < self.coverage < 1:
            raise ValueError(f"coverage must be a number between 0 and 1, such as 0.9; found {self.coverage!r:.100}")
        if self.sets is None:
            raise ValueError(
                "coverage needs sets of answers, and this model has none: calibrate it with dualvqa calibrate FOLDER "
                "--validation_file FILE, and export an exported model again"
            )
        groups = self.sets["groups"] if "by" in self.sets else {"all": self.sets}
        if all(lowest_of(one, self.coverage) is None for one in groups.values()):
            most = max((max(map(float, one["levels"]), default=0.0) for one in groups.values() if one), default=0.0)
            raise ValueError(
                f"a coverage of {self.coverage:g} can't be promised: the largest is {most:g}. Right answers that the "
                f"model doesn't know are in no set; more calibration images and a larger vocabulary help"
            )

    def of(self, promise, head):
        """What is promised to a question that this head answers, None for nothing."""
        if "by" not in promise:
            return promise
        return promise["groups"].get(head if promise["by"] == "head" else self.group)

    def threshold(self, head):
        """The lowest score that is answered, or None where all are."""
        if self.abstention is None:
            return None
        own = self.of(self.abstention, head)
        return own["threshold"] if own else math.inf

    def applied(self, items, scores, head):
        """A question's answers as they are given: those of its set, or withheld.

        Args:
            items: all of the head's answers that may be given, dicts, best first.
            scores: of each, with the probability of the question's type in it.
            head: that answers.

        Returns:
            The dicts: with `coverage` the answers of the set, and in each `coverage`, None where nothing can be
            promised of this question; it then has the best answer alone. Where the best score is too low, `answer` is
            None and `best_guess` what it would have been.
        """
        if self.coverage is not None:
            lowest = lowest_of(self.of(self.sets, head), self.coverage)
            count = 1 if lowest is None else max(1, sum(score >= lowest for score in scores))
            items = [{**item, "coverage": None if lowest is None else self.coverage} for item in items[:count]]
        threshold = self.threshold(head)
        if threshold is not None and not scores[0] >= threshold:
            items = [{**item, "answer": None, "best_guess": item["answer"]} for item in items]
        return items


def lowest_of(sets, coverage):
    """The lowest score in a set of at least this coverage, None where that can't be promised."""
    levels = {float(level): score for level, score in ((sets or {}).get("levels") or {}).items()}
    enough = [level for level in levels if level >= coverage - 1e-9]
    return levels[min(enough)] if enough else None


def check_top_k(top_k, coverage=None):
    """How many answers a call may need of each head; with `coverage` all.

    Raises:
        ValueError: no positive whole number, or both are given.
    """
    if isinstance(top_k, bool) or not isinstance(top_k, numbers.Integral) or top_k < 1:
        raise ValueError(f"top_k must be a whole number from 1, found {top_k!r}")
    if coverage is not None and top_k != 1:
        raise ValueError(f"coverage decides how many answers are given: leave out top_k, found {top_k}")
    return top_k if coverage is None else 2**31

"""What is promised of a question's answers: which score is high enough to answer, and which answers are a set."""

import functools
import logging
import math
import numbers

logger = logging.getLogger(__name__)

SHOWN = 20  # groups that a message names


class Promises:
    """What a call asks for of a calibration's `abstention` and `sets`. In plain numbers: all runtimes use it.

    Either may be made for each group of questions: it then has `by`, "head" or the name of a column, and `groups`, name
    -> what it would be for all, or None for a group that nothing can be promised of.

    Args:
        calibration: see [`DualVQAProcessor`].
        abstain: whether questions below the threshold are left unanswered; None does so where there is one, but not
            where `coverage` is given.
        coverage: the share of questions whose right answer is to be among those given; None for no promise.
        group: of all questions, for promises that were made by a column; or a list with one for each question, None
            where it isn't known. Of such nothing is promised. One that is no text is taken as its text.

    Raises:
        ValueError: there is no threshold, or no set of this coverage; the message says the largest that there is. Or a
            group that nothing is known of, or any where no promise was made by group.
    """

    def __init__(self, calibration, abstain=None, coverage=None, group=None):
        calibration, self.coverage = calibration or {}, coverage
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
        self.column, self.known = groups_of_column(calibration)
        self.group = list(map(self.named, group)) if isinstance(group, (list, tuple)) else self.named(group)
        if coverage is not None:
            self.check_coverage()

    def named(self, group):
        """A group as the promises name it.

        Raises:
            ValueError: they don't, or none was made by group.
        """
        if group is None:
            return None
        if self.column is None:
            raise ValueError(
                f"this model has no promises by group, found group={group!r:.100}: leave group out, or make such "
                f"promises with dualvqa calibrate FOLDER --promise_by COLUMN --validation_file FILE, and export an "
                f"exported model again"
            )
        if str(group) not in self.known:
            raise ValueError(
                f"expected as group a value of {self.column}, by which this model's promises were made: "
                f"{listed(self.known)}; found {group!r:.100}"
            )
        return str(group)

    def groups(self, count):
        """The group of each of so many questions, None where it isn't known; that is told once.

        Raises:
            ValueError: they are not as many.
        """
        groups = self.group if isinstance(self.group, list) else [self.group] * count
        if len(groups) != count:
            raise ValueError(f"group must be one for all questions, or a list of {count}; found {len(groups)} of them")
        used = [self.abstention, None if self.coverage is None else self.sets]
        if None in groups and any(promise and promise.get("by", "head") != "head" for promise in used):
            warn_once(
                f"this model's promises were made by {self.column}. Nothing is promised to questions without a group: "
                f"where there is a threshold they stay unanswered. Name theirs as group, one of: {listed(self.known)}"
            )
        return groups

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
            raise ValueError(
                f"a coverage of {self.coverage:g} can't be promised: the largest is {self.largest(groups)}. Right "
                f"answers that the model doesn't know are in no set; more calibration images and a larger vocabulary "
                f"help"
            )

    def largest(self, groups):
        """The largest coverage of the groups that were asked for and of all, in words."""
        most = {name: max(map(float, (one or {}).get("levels") or ()), default=0.0) for name, one in groups.items()}
        asked = set(self.group if isinstance(self.group, list) else [self.group])
        own = [f"{most[name]:g} for {name:.60}" for name in sorted(most) if name in asked][:SHOWN]
        of_all = f"{max(most.values(), default=0.0):g}"
        return f"{', '.join(own)}, and {of_all} for the best group" if own else of_all

    def of(self, promise, head, group):
        """What is promised to a question of this group that this head answers, None for nothing."""
        if "by" not in promise:
            return promise
        return promise["groups"].get(head if promise["by"] == "head" else group)

    def threshold(self, head, group=None):
        """The lowest score that is answered, or None where all are."""
        if self.abstention is None:
            return None
        own = self.of(self.abstention, head, group)
        return own["threshold"] if own else math.inf

    def applied(self, items, scores, head, group=None):
        """A question's answers as they are given: those of its set, or withheld.

        Args:
            items: all of the head's answers that may be given, dicts, best first.
            scores: of each, with the probability of the question's type in it.
            head: that answers.
            group: the question's, one of `groups`.

        Returns:
            The dicts: with `coverage` the answers of the set, and in each `coverage`, None where nothing can be
            promised of this question; it then has the best answer alone. Where the best score is too low, `answer` is
            None and `best_guess` what it would have been.
        """
        if self.coverage is not None:
            lowest = lowest_of(self.of(self.sets, head, group), self.coverage)
            count = 1 if lowest is None else max(1, sum(score >= lowest for score in scores))
            items = [{**item, "coverage": None if lowest is None else self.coverage} for item in items[:count]]
        threshold = self.threshold(head, group)
        if threshold is not None and not scores[0] >= threshold:
            items = [{**item, "answer": None, "best_guess": item["answer"]} for item in items]
        return items


def groups_of_column(calibration):
    """The column that promises of a calibration were made by, and the groups that it names; (None, []) of others."""
    promises = [calibration.get(name) or {} for name in ("abstention", "sets")]
    promises = [promise for promise in promises if promise.get("by", "head") != "head"]
    if not promises:
        return None, []
    return promises[0]["by"], sorted({group for promise in promises for group in promise["groups"]})


def listed(groups):
    more = f" and {len(groups) - SHOWN} more" if len(groups) > SHOWN else ""
    return ", ".join(f"{group:.60}" for group in groups[:SHOWN]) + more


@functools.cache
def warn_once(message):
    logger.warning(message)


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

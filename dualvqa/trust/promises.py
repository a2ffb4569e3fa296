"""The promises of a calibration: thresholds of abstention and sets of answers, for all questions or by group."""

import logging

import numpy as np
import torch

from processing import QUESTION_TYPES
from processing.outputs import output_chunks
from processing.wording import worded

from .abstention import NoThresholdError, choose_threshold
from .prediction_sets import fit_sets, true_scores
from .risk_control import control_risk
from .sample_size import images_for_threshold

logger = logging.getLogger(__name__)


class Judged:
    """Questions with known answers, as a promise sees them.

    Args:
        labelled: a `LabelledLogits` with images.
        temperatures: head -> temperature.

    Attributes:
        scores, correct, images: (n,) as in `choose_threshold`.
        heads: (n,) the head that answers.
        reached: (n,) as in `fit_sets`.
    """

    def __init__(self, labelled, temperatures):
        ranked = labelled.ranked(temperatures)
        self.images = np.asarray(labelled.images)
        self.scores, self.correct = labelled.routed(ranked)
        heads = [name for name in QUESTION_TYPES if name in labelled.heads]
        self.heads = np.full(len(self.scores), heads[0], dtype=object)
        share = np.ones(len(self.scores))
        if "question_type_scores" in ranked:
            best = ranked["question_type_scores"].max(dim=-1)
            self.heads = np.array(QUESTION_TYPES, dtype=object)[best.indices.numpy()]
            share = best.values.numpy()
        own = np.full(len(self.scores), np.nan)
        for name in heads:
            found = score_of_right(labelled, name, temperatures.get(name, 1.0))
            own = np.where(self.heads == name, found, own)
        self.reached = true_scores(self.correct == 1, own * share)

    def of(self, rows):
        """What a threshold is chosen from: the scores, how right the answers are, and the images of some questions."""
        return self.scores[rows], self.correct[rows], self.images[rows]


def score_of_right(labelled, head, temperature):
    """(n,) probability of the right answer in a head, NaN where it doesn't know it."""
    found = []
    for chunk, outputs in output_chunks(labelled.outputs):
        shares = (outputs[f"{head}_logits"].float() / temperature).softmax(dim=-1)
        labels = labelled.labels[head][chunk]
        own = shares.gather(1, labels[:, None].clamp(min=0))[:, 0]
        found.append(torch.where(labels >= 0, own, torch.nan))
    return torch.cat(found).numpy()


def choose(sample, args):
    """The threshold that the settings promise; see `choose_threshold` and `control_risk`.

    Raises:
        NoThresholdError: there is none; the message says how many images it takes, where that can be told.
    """
    if args.risk_of == "questions":
        return control_risk(*sample, args.max_risk)
    try:
        return {**choose_threshold(*sample, args.max_risk, args.risk_confidence), "risk_of": "answers"}
    except NoThresholdError as error:
        raise NoThresholdError(f"{error}. {advice(sample, args)}") from error


def advice(sample, args):
    """What helps where no threshold bounds the share of wrong answers."""
    needed, seen = images_for_threshold(*sample, args.max_risk, args.risk_confidence), len(set(sample[2]))
    if needed is None:
        helps = "Too many answers are wrong at every score, so more images like these would hardly help: give a larger"
    else:
        helps = f"Give about {needed:,} images in place of {seen:,}, a rough projection from these, or a larger"
    try:
        weaker = control_risk(*sample, args.max_risk)
    except NoThresholdError:
        return f"{helps} --max_risk"
    return (
        f"{helps} --max_risk, or --risk_of questions: {weaker['coverage']:.0%} of these could be answered then, and of "
        f"all that are asked, rather than of the answers given, at most {args.max_risk:.1%} be expected to be wrong"
    )


def make_promises(judged, args, groups=None):
    """What is promised, as `DualVQAProcessor.calibration` keeps it, and figures. What can't be is told in the log.

    Args:
        judged: [`Judged`].
        args: the [`CalibrationArguments`].
        groups: (n,) names where each group of questions gets promises of its own; None for one promise for all.

    Returns:
        A dict of `sets` and, with `max_risk`, `abstention`; and a dict of figures.
    """
    members = {None: np.arange(len(judged.scores))} if groups is None else members_of(groups, args.promise_by)
    sets, chosen, figures = {}, {}, {}
    for name, rows in members.items():
        sets[name] = fit_sets(judged.reached[rows], judged.images[rows])
        start = "" if name is None else f"{name}_"
        figures[f"{start}largest_coverage"] = sets[name]["largest"]
        if args.max_risk is None:
            continue
        try:
            found = chosen[name] = choose(judged.of(rows), args)
            figures |= {f"{start}{figure}": found[figure] for figure in ("threshold", "coverage")}
        except NoThresholdError as error:
            chosen[name] = None
            what = "every question will be answered" if name is None else f"{name}: its questions stay unanswered"
            logger.warning("%s: %s", what, worded(str(error)))
    promised = {"sets": by_group(sets, args.promise_by)}
    if any(chosen.values()):
        promised["abstention"] = {**by_group(chosen, args.promise_by), "max_risk": args.max_risk}
        given = sum(found["coverage"] * found["rows"] for found in chosen.values() if found)
        figures |= {"max_risk": args.max_risk, "risk_of": args.risk_of, "coverage": given / len(judged.scores)}
    elif args.max_risk is not None and groups is not None:
        logger.warning("no group has a threshold: every question will be answered")
    return promised, figures


def members_of(groups, by):
    """The name of each group, as a text -> the numbers of its questions; those of no group are told and left out."""
    lacking = np.array([group is None or group != group for group in groups], dtype=bool)  # NaN isn't itself
    if lacking.any():
        logger.warning(
            "%d of %d questions have no value of %s: they are of no group, and nothing is promised of such questions",
            *(lacking.sum(), len(lacking), by),
        )
    names = np.array(list(map(str, groups)), dtype=object)
    return {name: np.flatnonzero((names == name) & ~lacking) for name in sorted(set(names[~lacking]))}


def by_group(found, by):
    """One promise as it is, those of groups under their names."""
    return found[None] if None in found else {"by": by, "groups": found}


def groups_of(judged, rows, by):
    """(n,) names of the questions' groups, None for none.

    Args:
        by: "head", the name of a column of the rows, or None.

    Raises:
        ValueError: the rows have no such column.
    """
    check_groups(rows, by)
    if by is None:
        return None
    return judged.heads if by == "head" else rows[by][:]


def check_groups(rows, by):
    """Refuses groups that the rows don't have; `by` as in `groups_of`, to be known before anything is trained.

    Raises:
        ValueError: as said.
    """
    if by not in (None, "head") and by not in rows.column_names:
        raise ValueError(f"--promise_by {by}: expected head or a column of the data: {', '.join(rows.column_names)}")

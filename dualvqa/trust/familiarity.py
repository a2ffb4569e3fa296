"""What is familiar to each tower: the fit to its states, and the limits beyond which an input is flagged."""

import logging
import math

import torch

from modeling_dualvqa.familiarity_dualvqa import SHARED, TOWERS, TowerFamiliarity, TowersFamiliarity

logger = logging.getLogger(__name__)

FALSE_ALARMS = 0.01
MOST_KEYS, KEY_WIDTH = 512, 64
# Chosen on made kinds of foreign inputs that a fit was not shown; see docs/results/unfamiliar.md.
RIDGE = {"image": 0.03, "question": 0.5}  # of the mean variance of a state's numbers, added to the covariance
BOTH = {"image": False, "question": True}  # whether that of a foreign kind counts; 16 pictures are too few for one
SHARED_WEIGHT = 0.8  # of the scores that no foreign direction gives
FOLDS = 5
FEWEST = 2  # different states
# The least that a score must rise above its middle: states of 8-bit weights are off by less.
FLOORS = {"nearest": 0.02, "far": 0.02, "near": 0.02}
DIRECTION_FLOOR = 0.25  # standard deviations of training states


def fit_tower(tower, states, foreign):
    """A [`TowerFamiliarity`] of training states; its scores have no common scale yet, see `standardise`.

    A foreign direction is that of Fisher's discriminant, (S + ridge)^-1 (mean of the kind - mean of training), with S
    the covariance of training, of questions the mean of both, in standard deviations of the training states.

    Args:
        tower: "image" or "question", for the ridge.
        states: (n, C) different training states.
        foreign: for each kind of foreign inputs (m, C), what the tower makes of them.

    Raises:
        ValueError: too few states, states that aren't finite, or that are all the same.
    """
    states = states.double()
    count, width = states.shape
    if count < FEWEST:
        raise ValueError(f"expected at least {FEWEST} different training states, found {count}")
    unfit = int((~states.isfinite().all(dim=1)).sum())
    if unfit:
        raise ValueError(f"{unfit} of {count} training states are not finite")
    mean = states.mean(dim=0)
    centred = states - mean
    variance = centred.square().mean()
    if not variance > 1e-12:
        raise ValueError(f"all {count} training states are the same: the tower doesn't distinguish its inputs")
    ridge = RIDGE[tower] * variance * torch.eye(width, dtype=torch.double)
    own = covariance(states)
    directions = []
    for kind in foreign:
        kind = kind.double()
        within = (own + covariance(kind)) / 2 if BOTH[tower] else own
        directions.append(torch.linalg.solve(within + ridge, kind.mean(dim=0) - mean))
    directions = torch.stack(directions, dim=1)  # (C, J)
    directions = directions / (centred @ directions).std(dim=0).clamp(min=1e-9)
    kept = centred[torch.linspace(0, count - 1, min(count, MOST_KEYS)).long()]
    unit = torch.nn.functional.normalize(kept, dim=-1)
    key_width = min(KEY_WIDTH, width, len(kept) - 1)
    basis = torch.linalg.svd(unit, full_matrices=False).Vh[:key_width].T  # (C, K)
    found = {"mean": mean, "basis": basis, "keys": unit @ basis, "foreign": directions}
    fitted = TowerFamiliarity(width, len(kept), key_width, len(foreign))
    for name, values in found.items():
        rounded = values.half()  # as they are saved, so that a folder answers as the model did that wrote it
        if not rounded.isfinite().all():
            raise ValueError(f"the training states lead to a {name} beyond float16; are they scaled by hundreds?")
        getattr(fitted, name).copy_(rounded)
    return fitted


def covariance(states):
    """(n, C) -> (C, C)."""
    centred = states - states.mean(dim=0)
    return centred.T @ centred / len(states)


def crossed_scores(tower, states, foreign):
    """(n, S) scores of training states by towers' familiarity that was fitted without them, a fold at a time.

    They stand for new inputs only where the tower itself wasn't trained on these. None of fewer than two a fold.
    """
    if len(states) < 2 * FOLDS:
        return torch.zeros(0, len(SHARED) + len(foreign))
    fold = folds_of(states)
    found = states.new_empty(len(states), len(SHARED) + len(foreign), dtype=torch.float32)
    for number in range(FOLDS):
        found[fold == number] = fit_tower(tower, states[fold != number], foreign).scores(states[fold == number])
    return found


def folds_of(rows):
    """(n,) a fold for each row, at random and the same every time."""
    return torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)) % FOLDS


def reference_novelties(tower, reference, columns=slice(None)):
    """(n,) novelties of reference scores (n, S), a fold at a time on the scale of the others; then sets that of all.

    On a scale that was made of themselves they would be nearer to the middle than new ones. But a text that is asked
    often has other novelties on each scale: with the limit between them it would be flagged whenever it is asked, so
    none is taken for less novel than it is on the scale of all. None of fewer than two a fold.

    Args:
        columns: the scores that count.
    """
    fold, found = folds_of(reference), torch.empty(len(reference))
    for number in range(FOLDS if len(reference) >= 2 * FOLDS else 0):
        standardise(tower, reference[fold != number])
        scaled = (reference[fold == number] - tower.centre) * tower.scale
        found[fold == number] = scaled[:, columns].amax(dim=-1)
    standardise(tower, reference)
    found = found.maximum(((reference - tower.centre) * tower.scale)[:, columns].amax(dim=-1))
    return found if len(reference) >= 2 * FOLDS else found[:0]


def standardise(tower, reference):
    """Brings the scores of a [`TowerFamiliarity`] to one scale: 0 in the middle of the reference, 1 near its top.

    The shared ones reach `SHARED_WEIGHT` there: the directions find more, and false alarms are spent on the largest.

    Args:
        reference: (n, S) scores of inputs like those of training that it wasn't fitted on.
    """
    centre = reference.median(dim=0).values
    top = reference.topk(max(1, math.ceil(0.02 * len(reference))), dim=0).values.mean(dim=0)
    floors = [FLOORS[name] for name in SHARED] + [DIRECTION_FLOOR] * (reference.shape[1] - len(SHARED))
    scale = 1 / (top - centre).maximum(torch.tensor(floors))
    scale[: len(SHARED)] *= SHARED_WEIGHT
    tower.centre.copy_(centre.half())
    tower.scale.copy_(scale.half())


def limit_of(values, share):
    """The largest familiar one of n values: of new ones like them at most that share is beyond it.

    It is the ceil((n + 1) (1 - share))-th smallest, which holds for any distribution (Vovk et al. 2005); below
    1 / share - 1 values there is none.

    Returns:
        The limit or None, and how many values it takes.
    """
    needed = math.ceil(1 / share - 1e-9) - 1
    values = values[values.isfinite()].sort().values
    place = math.ceil((len(values) + 1) * (1 - share) - 1e-9)
    return (None if place > len(values) else values[place - 1].item()), needed


def fit_towers(states, foreign, held_out, frozen, false_alarms=FALSE_ALARMS):
    """The familiarity of both towers, and the limits of what is familiar.

    Each tower may flag for half of the false alarms, so that an ordinary question about an ordinary image is flagged
    with a probability of at most `false_alarms`. Limits come from inputs that the model was not trained on: held-out
    ones, and, where the tower is frozen and so saw no training input, those of training by folds.

    Args:
        states: tower -> (n, C) different training states.
        foreign: tower -> a list of (m, C).
        held_out: tower -> (h, C) states of images, and of questions as they were asked.
        frozen: tower -> whether it was trained on none of the training inputs.
        false_alarms: share of ordinary questions that may be flagged.

    Returns:
        The [`TowersFamiliarity`], limits by tower, and problems by tower, what was found and what is needed, for those
        without a limit.

    Raises:
        ValueError: see `fit_tower`.
    """
    limits, problems, fitted = {}, {}, {}
    for tower in TOWERS:
        fitted[tower] = fit_tower(tower, states[tower], foreign[tower])
        reference = fitted[tower].scores(held_out[tower])
        if frozen[tower]:
            reference = torch.cat([reference, crossed_scores(tower, states[tower], foreign[tower])])
        if len(reference):
            values = reference_novelties(fitted[tower], reference)
        else:  # the training states give a scale, and no limit
            standardise(fitted[tower], fitted[tower].scores(states[tower]))
            values = torch.empty(0)
        limit, needed = limit_of(values, false_alarms / len(TOWERS))
        if limit is None:
            problems[tower] = f"{len(reference)} {tower}s found, {needed} needed for {false_alarms:.0%} false alarms"
        else:
            limits[tower] = limit
    return as_module(fitted), limits, problems


def as_module(towers):
    """tower -> [`TowerFamiliarity`] as one [`TowersFamiliarity`]."""
    sizes = {
        tower: {
            "width": len(one.mean),
            "keys": len(one.keys),
            "key_width": one.keys.shape[1],
            "directions": one.foreign.shape[1],
        }
        for tower, one in towers.items()
    }
    familiarity = TowersFamiliarity(sizes)
    for tower, one in towers.items():
        familiarity[tower] = one
    return familiarity

"""What is familiar: the Gaussian of training states, and the limits beyond which a question is flagged."""

import math

import numpy as np
import torch
from sklearn.covariance import LedoitWolf

MOST_STATES = 5000  # training questions that the Gaussian is fitted on; more hardly move it
FALSE_ALARMS = 0.01
SCORES_PER_QUESTION = 2  # the distance, and the energy of the head that answers


def fit_gaussian(states):
    """Mean and whitening matrix of fused states, for `model.set_familiarity`.

    The covariance is shrunk towards a multiple of the identity (Ledoit and Wolf 2004), so it can be inverted whatever
    the states are.

    Args:
        states: (n, D) of training questions.

    Returns:
        mean (D,) and whitening W (D, D) float32 tensors; W W^T is the inverse covariance.

    Raises:
        ValueError: fewer states than they are wide, states that aren't finite, or that are all the same.
    """
    states = np.asarray(states, float)
    count, width = states.shape
    if count < width:
        raise ValueError(f"expected at least as many training states as they are wide, {width}; found {count}")
    if not np.isfinite(states).all():
        rows = np.flatnonzero(~np.isfinite(states).all(axis=1))
        raise ValueError(f"{len(rows)} of {count} training states are not finite, first that of question {rows[0]}")
    if not states.var(axis=0).any():
        raise ValueError(f"all {count} training states are the same: the model doesn't distinguish questions")
    fitted = LedoitWolf().fit(states)
    values, vectors = np.linalg.eigh(fitted.covariance_)
    whitening = vectors / np.sqrt(values)
    return torch.tensor(fitted.location_, dtype=torch.float32), torch.tensor(whitening, dtype=torch.float32)


def fit_limits(processor, outputs, false_alarms=FALSE_ALARMS):
    """The largest familiar value of each score of `processor.novelty`, from questions like those of training.

    Each question has two scores, so each of them may exceed its limit for half of the false alarms: a new question of
    the same kind is flagged with a probability of at most `false_alarms`. The limit is the ceil((n + 1) (1 - share))-th
    smallest of n values, which holds for any distribution (Vovk et al. 2005); below 2 / false_alarms - 1 values there
    is none.

    Args:
        processor: whose `novelty` is computed.
        outputs: name -> tensor, of questions that the model was not trained on.
        false_alarms: share of ordinary questions that may be flagged.

    Returns:
        limits: score -> largest familiar value.
        problems: score -> what was found and what is needed, for those without a limit.
    """
    limits, problems = {}, {}
    share = false_alarms / SCORES_PER_QUESTION
    needed = math.ceil(1 / share) - 1
    for name, values in processor.novelty(outputs).items():
        values = values[values.isfinite()].sort().values
        place = math.ceil((len(values) + 1) * (1 - share) - 1e-9)
        if place > len(values):
            problems[name] = f"{len(values)} questions found, {needed} needed for {false_alarms:.0%} false alarms"
        else:
            limits[name] = values[place - 1].item()
    return limits, problems

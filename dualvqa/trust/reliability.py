"""How far scores can be trusted: calibration errors and the risk at each coverage, as pure functions of arrays."""

import numpy as np
import torch


def reliability_bins(confidences, correct, bins=15):
    """Confidence and accuracy in `bins` intervals of equal width over [0, 1] (Guo et al. 2017, section 2).

    Args:
        confidences: (n,) probability of the answer that was given.
        correct: (n,) how right it was, in [0, 1].

    Returns:
        For each interval that has questions a dict `lower`, `upper`, `count`, `confidence` and `accuracy` (both means).
    """
    confidences, correct = np.asarray(confidences, float), np.asarray(correct, float)
    # Intervals are closed above, as in the paper; the first one has 0 as well.
    places = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    return [
        {
            "lower": place / bins,
            "upper": (place + 1) / bins,
            "count": int((places == place).sum()),
            "confidence": float(confidences[places == place].mean()),
            "accuracy": float(correct[places == place].mean()),
        }
        for place in np.unique(places)
    ]


def expected_calibration_error(confidences, correct, bins=15):
    """Mean distance of confidence and accuracy over the intervals, by their counts (Guo et al. 2017, equation 3)."""
    found = reliability_bins(confidences, correct, bins)
    return sum(b["count"] * abs(b["confidence"] - b["accuracy"]) for b in found) / len(confidences)


def brier_scores(probabilities, labels):
    """Squared distance of (n, N) probabilities and one-hot labels (n,), summed over answers: (n,) (Brier 1950).

    A label outside 0..N-1, of an answer that the vocabulary lacks, is no answer's: its one-hot vector is zero.
    """
    probabilities, labels = torch.as_tensor(probabilities).double(), torch.as_tensor(labels)
    known = (labels >= 0) & (labels < probabilities.shape[1])
    true = probabilities.gather(1, labels.where(known, 0)[:, None])[:, 0]
    return probabilities.square().sum(dim=1) + (1 - 2 * true) * known


def brier_score(probabilities, labels):
    """Mean of `brier_scores`."""
    return brier_scores(probabilities, labels).mean().item()


def risk_coverage(confidences, correct):
    """The error among those answered, if only the most confident are, for every possible number of them.

    Questions of one confidence are answered together or not at all.

    Returns:
        thresholds, coverages, risks: (m,) arrays of falling thresholds; at each all questions with that confidence or
        more are answered, `coverages` is their share and `risks` the mean of 1 - correct among them (El-Yaniv and
        Wiener 2010).
    """
    confidences, correct = np.asarray(confidences, float), np.asarray(correct, float)
    order = np.argsort(-confidences, kind="stable")
    ordered = confidences[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # of each run of equal confidences
    answered = last + 1
    risks = np.cumsum(1 - correct[order])[last] / answered
    return ordered[last], answered / len(ordered), risks


def area_under_risk_coverage(confidences, correct):
    """Mean of the risk over all coverages (Geifman et al. 2019): 0 for a model without errors."""
    _, coverages, risks = risk_coverage(confidences, correct)
    return float((np.diff(coverages, prepend=0) * risks).sum())

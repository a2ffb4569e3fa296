"""Answering only what is likely enough to be right: the score threshold that keeps a promised risk."""

import numpy as np
from scipy.stats import betabinom

STEPS = 20  # thresholds that are tried, each with a twentieth more of the questions
FIRST_RISK = 1 / 3  # the first one tried is where a third of the wanted risk would pass


class NoThresholdError(ValueError):
    """No threshold keeps the promise."""


def prediction_bound(wrong, answered, confidence, effect=1.0):
    """Upper bound on the share of wrong answers among as many new answers as there are old ones.

    A bound on the true risk, such as Clopper and Pearson's, isn't enough: the new answers have sampling noise too. Of
    `wrong` among n, those among m new ones lie below the `confidence` quantile of a beta-binomial distribution with m
    trials and Beta(wrong + 1, n - wrong), whatever the true risk is (Thatcher 1964); as m grows that becomes Clopper
    and Pearson's bound. Here m is n: with fewer new answers the share varies more, with more of them less.

    Args:
        wrong: how many of the old answers were wrong.
        answered: how many old answers there are.
        confidence: probability with which the bound holds.
        effect: design effect of the sample: all numbers are divided by it (Korn and Graubard 1998).
    """
    new = max(1, int(answered / effect))
    others = max((answered - wrong) / effect, 1e-9)  # none right is the limit of the distribution
    return float(betabinom.ppf(confidence, new, wrong / effect + 1, others)) / new


def intraclass_correlation(wrong, images):
    """How alike the errors about one image are: the one-way analysis-of-variance estimate (Donner 1986), at least 0.

    Args:
        wrong: (n,) 0 or 1.
        images: (n,) number of the image.
    """
    _, images, sizes = np.unique(images, return_inverse=True, return_counts=True)
    count, groups = len(images), len(sizes)
    if groups < 2 or groups == count:
        return 0.0
    means = np.bincount(images, wrong) / sizes
    between = (sizes * (means - wrong.mean()) ** 2).sum() / (groups - 1)
    within = ((wrong - means[images]) ** 2).sum() / (count - groups)
    size = (count - (sizes**2).sum() / count) / (groups - 1)
    total = between + (size - 1) * within
    return max(0.0, float((between - within) / total)) if total > 0 else 0.0


def design_effect(wrong, images, correlation):
    """How many questions about few images are worth one question about an image of its own, at least 1.

    The larger of two estimates: 1 + correlation (sum of squared image sizes / questions - 1) (Kish 1965), which also
    works without errors, and the variance of the risk as a ratio over images to that of independent questions, which
    sees whether errors gather more among these answers than elsewhere.
    """
    _, images, sizes = np.unique(images, return_inverse=True, return_counts=True)
    count, groups, risk = len(images), len(sizes), wrong.mean()
    effects = [1.0, 1 + correlation * ((sizes**2).sum() / count - 1)]
    if 0 < risk < 1 and groups > 1:
        excess = np.bincount(images, wrong) - risk * sizes
        effects.append(groups / (groups - 1) * (excess**2).sum() / (count * risk * (1 - risk)))
    return float(max(effects))


def choose_threshold(scores, correct, images, max_risk, confidence=0.95):
    """The lowest threshold that keeps the share of wrong answers within `max_risk`, also on new questions.

    The promise: among as many new answers at or above the threshold, about other images, at most `max_risk` are wrong,
    with a probability of `confidence`. It is about their observed share, so `prediction_bound` is used where Geifman
    and El-Yaniv (2017, algorithm 1) bound the true risk. Thresholds are tried in a fixed sequence, from the surest
    twentieths of the questions down, until one fails: for a true risk the search then costs no confidence (as in
    Angelopoulos et al. 2021, section 2.3). The observed share of new questions is no such fixed hypothesis, and the
    design effect is an estimate, so only half of 1 - `confidence` is spent on each bound. Measured by random splits of
    simulated and real answers, the promise then holds in more than `confidence` of them.

    Where the sequence starts doesn't depend on what is right: at the fewest questions of which a third of `max_risk`
    would pass. With fewer nothing could be shown, with more, questions that are answered too rarely stay without
    threshold.

    Args:
        scores: (n,) of the best answers, as the processor gives them.
        correct: (n,) how right they are, in [0, 1]; what isn't fully right counts as wrong.
        images: (n,) key of each question's image.
        max_risk: largest share of wrong answers among those given, in (0, 1).
        confidence: see above.

    Returns:
        A dict with `threshold`, `max_risk`, `confidence`, and of the questions that it was chosen on `rows`, `images`,
        the share `coverage` that is answered, their `risk`, and its upper `bound`.

    Raises:
        NoThresholdError: none keeps the promise; the message says what was found.
    """
    order = np.argsort(-np.asarray(scores, float), kind="stable")
    scores, wrong = np.asarray(scores, float)[order], (np.asarray(correct, float)[order] < 1).astype(float)
    _, images = np.unique(np.asarray(images)[order], return_inverse=True)
    count, pictures = len(scores), int(images.max()) + 1 if len(scores) else 0
    level = 1 - (1 - confidence) / 2
    correlation = intraclass_correlation(wrong, images) if count else 0.0
    overall = design_effect(np.zeros(count), images, correlation) if count else 1.0
    found, tried = None, []
    for step in range(1, STEPS + 1):
        # Questions of one score are answered together.
        answered = int((scores >= scores[max(1, count * step // STEPS) - 1]).sum()) if count else 0
        if not tried and (
            not answered or prediction_bound(FIRST_RISK * max_risk * answered, answered, level, overall) > max_risk
        ):
            continue
        effect = design_effect(wrong[:answered], images[:answered], correlation)
        bound = prediction_bound(wrong[:answered].sum(), answered, level, effect)
        tried.append((bound, answered))
        if bound > max_risk:
            break
        found = {
            "threshold": float(scores[answered - 1]),
            "max_risk": max_risk,
            "confidence": confidence,
            "rows": count,
            "images": pictures,
            "coverage": answered / count,
            "risk": float(wrong[:answered].mean()),
            "bound": bound,
        }
    if found is None:
        what = f"{count} questions about {pictures} images, {wrong.mean() if count else 0:.1%} of them answered wrongly"
        reached = "they are too few to show a risk that low"
        if tried:
            bound, answered = min(tried)
            reached = f"of the {answered} surest answers up to {bound:.1%} may be wrong"
        raise NoThresholdError(
            f"no score threshold keeps at most {max_risk:.1%} of the answers wrong with {confidence:.0%} confidence: "
            f"found {what}; {reached}. Give more validation questions, or a larger --max_risk"
        )
    return found


def selective(scores, correct, threshold):
    """Share of the questions that are answered at a threshold, and the mean of 1 - correct among them, if any are."""
    answered = np.asarray(scores, float) >= threshold
    risk = float(1 - np.asarray(correct, float)[answered].mean()) if answered.any() else None
    return float(answered.mean()), risk

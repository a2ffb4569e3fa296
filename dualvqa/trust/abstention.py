"""Answering only what is likely enough to be right: the score threshold that keeps a promised risk."""

import numpy as np
from scipy.stats import betabinom

STEPS = 20  # thresholds that are tried, each with a twentieth more of the questions
START = 0.5  # a search starts where this share of the wanted risk would pass: earlier there is no room for mistakes
SEARCH, ALL = 0.5, 0.05  # what the search spends of 1 - confidence, and what trying all answers before it does


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
    chances = betabinom.pmf(np.arange(new + 1), new, wrong / effect + 1, others)
    return min(new, int(np.searchsorted(np.cumsum(chances), confidence))) / new


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
    and El-Yaniv (2017, algorithm 1) bound the true risk. Thresholds are tried in a fixed sequence, from the most
    confident answers down, until one fails, which costs no confidence in a search for a true risk (Angelopoulos et al.
    2021, section 2.3). Where it starts depends on the numbers of questions and images and on how alike errors about an
    image are, not on which answers are right. Before that all answers are tried, for a model that is hardly ever wrong
    needs no threshold, and its few errors may be the most confident answers.

    Of 1 - `confidence` nearly a half is held back: observed shares are no hypotheses that are fixed before the search,
    and the design effect is an estimate. In simulations the promise was then broken in 0 to 6 of 100 random splits,
    of 300 images with 6 to 10 questions each as of 100 with 20, where nearly all answers about 6 images are wrong.

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
    level = 1 - SEARCH * (1 - confidence)
    order = np.argsort(-np.asarray(scores, float), kind="stable")
    scores, wrong = np.asarray(scores, float)[order], (np.asarray(correct, float)[order] < 1).astype(float)
    _, images = np.unique(np.asarray(images)[order], return_inverse=True)
    count = len(scores)
    places = [max(1, count * step // STEPS) - 1 for step in range(1, STEPS + 1)] if count else []
    answered = [int((scores >= scores[place]).sum()) for place in places]  # equal scores are answered together
    correlation = intraclass_correlation(wrong, images) if count else 0.0

    def bound(number, level):
        effect = design_effect(wrong[:number], images[:number], correlation)
        return prediction_bound(wrong[:number].sum(), number, level, effect)

    bounds, kept = {}, []
    if count and (of_all := bound(count, 1 - ALL * (1 - confidence))) <= max_risk:
        bounds[count], kept, answered = of_all, [count], []
    for number in answered[first_place(answered, images, START * max_risk, max_risk, level, correlation) :]:
        bounds[number] = bound(number, level)
        if bounds[number] > max_risk:
            break
        kept.append(number)
    if not kept:
        reached = "they are too few to show a risk that low"
        if bounds:
            least, number = min((least, number) for number, least in bounds.items())
            reached = f"of the {number} most confident answers up to {least:.1%} may be wrong"
        raise NoThresholdError(
            f"no score threshold keeps at most {max_risk:.1%} of the answers wrong with {confidence:.0%} confidence: "
            f"found {count} questions about {len(set(images))} images, {wrong.mean() if count else 0:.1%} of them "
            f"answered wrongly; {reached}"
        )
    number = max(kept)
    return {
        "threshold": float(scores[number - 1]),
        "max_risk": max_risk,
        "confidence": confidence,
        "rows": count,
        "images": len(set(images)),
        "coverage": number / count,
        "risk": float(wrong[:number].mean()),
        "bound": bounds[number],
    }


def first_place(answered, images, risk, max_risk, level, correlation):
    """The first of the numbers of answers of which the share `risk` could be wrong and pass; their length if none."""
    if not answered:
        return 0
    effect = design_effect(np.zeros(len(images)), images, correlation)
    passing = (prediction_bound(risk * number, number, level, effect) <= max_risk for number in answered)
    return next((place for place, passes in enumerate(passing) if passes), len(answered))


def selective(scores, correct, threshold):
    """Share of the questions that are answered at a threshold, and the mean of 1 - correct among them, if any are.

    The threshold may be one for each question, (n,).
    """
    answered = np.asarray(scores, float) >= threshold
    risk = float(1 - np.asarray(correct, float)[answered].mean()) if answered.any() else None
    return float(answered.mean()), risk

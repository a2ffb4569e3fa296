"""How similar a remembered question must be to count how much: a memory's parameters, from held-out questions."""

import math

import torch

from modeling_dualvqa.memory_dualvqa import mix
from processing.answers import IGNORE_INDEX

POSITIVE = ("temperature", "head_temperature", "image_weight", "same_image_weight", "share_slope")
FITTED = (*POSITIVE, "share_bias")
SPREAD = {"share_bias": 3.0}  # how far from its default a parameter is likely to be: a factor of e^SPREAD, or so much
USUAL_SPREAD = 1.0
ROUNDS = 3  # other weights find other neighbours
STEPS = 60
FEWEST = 50  # questions; with fewer the defaults stay


def fit_parameters(memory, logits, labels, encoded):
    """The parameters under which held-out questions' true types and answers are most likely.

    The likelihood is that of the mixture (Khandelwal et al. 2020, equation 3); a weak normal prior around the memory's
    own parameters, on a logarithmic scale where these are positive, keeps few questions from running to extremes. The
    neighbours are searched for again with what was found, and the likeliest parameters of all rounds are kept.

    Args:
        memory: a [`Memory`] whose examples none of the questions is among. Its parameters are those to begin with.
        logits: head, or "question_type" -> (n, N), of the heads alone.
        labels: likewise -> (n,); -100 where a head has no right answer.
        encoded: what `memory.search` takes: `questions`, `images`, `image_index` and `question_index`.

    Returns:
        A dict of the fitted parameters.
    """
    start = {name: float(memory.settings[name]) for name in FITTED}
    settings, best, likeliest, new = memory.settings, start, None, memory.settings["new_answers"]
    try:
        for number in range(ROUNDS + 1):
            memory.settings = {**settings, **best}
            found = memory.search(**encoded)
            values = {name: torch.tensor(value, dtype=torch.float64) for name, value in best.items()}
            reached = objective(values, start, logits, labels, found, new)
            if likeliest is None or reached < likeliest[0]:
                likeliest = reached.item(), best
            if number < ROUNDS:
                best = improved(best, start, logits, labels, found, new)
    finally:
        memory.settings = settings
    return likeliest[1]


def improved(begin, start, logits, labels, found, new):
    """The parameters with the least `objective` for these neighbours, by L-BFGS from `begin`."""
    free = {name: free_form(name, torch.tensor(value, dtype=torch.float64)) for name, value in begin.items()}
    free = {name: value.clone().requires_grad_() for name, value in free.items()}
    optimizer = torch.optim.LBFGS(free.values(), max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        values = {name: bound_form(name, value) for name, value in free.items()}
        loss = objective(values, start, logits, labels, found, new)
        loss.backward()
        return loss

    optimizer.step(closure)
    reached = {name: bound_form(name, value).item() for name, value in free.items()}
    return reached if all(map(math.isfinite, reached.values())) else begin


def free_form(name, value):
    return value.clamp(min=1e-3).log() if name in POSITIVE else value


def bound_form(name, value):
    return value.clamp(-10, 10).exp() if name in POSITIVE else value


def objective(parameters, start, logits, labels, found, new):
    """Mean negative log-likelihood of a question's true type and answer, with the prior's share of it."""
    found = found._replace(**{name: getattr(found, name).double() for name in ("question", "image", "same", "taught")})
    logits = {name: scores.double() for name, scores in logits.items()}
    chances = mix(parameters, logits, found, new).log_probabilities
    total, count = 0.0, len(found.indices)
    for name, scores in chances.items():
        known = labels[name] != IGNORE_INDEX
        total = total - scores[known].gather(1, labels[name][known, None]).sum()
    for name, value in parameters.items():
        usual = torch.tensor(start[name], dtype=torch.float64)
        distance = free_form(name, value) - free_form(name, usual)
        total = total + 0.5 * (distance / SPREAD.get(name, USUAL_SPREAD)) ** 2
    return total / count

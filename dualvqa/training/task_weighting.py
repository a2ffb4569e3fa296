"""Weights of the two heads' losses: fixed, by epoch, learned, or from the gradients.

Weights are constants within a step, and are renewed between steps from statistics of the whole step: all accumulation
steps, all processes. So they don't depend on how a step is cut.
"""

import math
import re

import torch

TASKS = ("binary", "open_ended")
# Epochs and weights of the yes/no and the open-ended loss, from the design.
DEFAULT_SCHEDULE = ["0-10:0.5/0.5", "11-20:0.3/0.7", "21-30:0.2/0.8"]
SCHEDULE_ROW = re.compile(r"(\d+)-(\d+):([-+.\deE]+)/([-+.\deE]+)")


class FixedWeighting:
    """The weights that are given.

    Args:
        weights: dict task -> float.
        args: [`DualVQATrainingArguments`].

    Raises:
        ValueError: all weights are zero.
    """

    needs_both_heads = True
    reads_fused_state = False

    def __init__(self, weights, args):
        if not any(weights.values()):
            raise ValueError(f"the loss weights of {' and '.join(weights)} are all zero; give one above 0")
        self.weights = dict(weights)

    def start_step(self, epoch):
        """Called before a step, with the epochs done so far, 1.5 in the middle of the second."""

    def statistics(self, parts, fused_state, scale=1.0):
        """What `update` needs of one micro-batch, as a tensor whose sum over micro-batches and processes is the step's.

        Args:
            parts: dict task -> the micro-batch's share of the step's loss.
            fused_state: (B, D), what the heads read; None for a weighting that doesn't ask for it.
            scale: factor that keeps half-precision gradients from vanishing.
        """
        return None

    def update(self, statistics):
        """Called after a step with the sum of its statistics."""

    def state_dict(self):
        return {"weights": self.weights}

    def load_state_dict(self, state):
        self.weights = dict(state["weights"])


class GivenWeighting(FixedWeighting):
    needs_both_heads = False


class ScheduledWeighting(FixedWeighting):
    """Weights from a table of epochs; with `task_weighting_linear`, linear between the first epochs of its rows."""

    def __init__(self, weights, args):
        super().__init__(weights, args)
        self.rows = parse_schedule(args.task_weighting_schedule)
        self.linear = args.task_weighting_linear
        self.start_step(0.0)

    def start_step(self, epoch):
        place = max(index for index, (first, _, _) in enumerate(self.rows) if first <= epoch)
        first, _, values = self.rows[place]
        if self.linear and place + 1 < len(self.rows):
            following, _, goal = self.rows[place + 1]
            share = (epoch - first) / (following - first)
            values = [(1 - share) * value + share * end for value, end in zip(values, goal)]
        self.weights = dict(zip(TASKS, values))


class UncertaintyWeighting(FixedWeighting):
    """Weights exp(-s), with s minimising exp(-s) L + s / 2 for each task.

    Kendall et al. 2018, "Multi-Task Learning Using Uncertainty to Weigh Losses", equation 10; s is the logarithm of the
    task's variance. It starts at the weights given. Its gradient, 1/2 - exp(-s) L, needs no more than the step's
    losses, so s has an optimizer of its own, and the model none of its parameters.
    """

    def __init__(self, weights, args):
        super().__init__(weights, args)
        if not all(weights.values()):
            raise ValueError(f"uncertainty weighting starts at weights above 0, found {weights}")
        self.log_variances = torch.tensor([-math.log(weights[task]) for task in TASKS], dtype=torch.float64)
        self.optimizer = torch.optim.Adam([self.log_variances], lr=args.task_weighting_learning_rate)

    def statistics(self, parts, fused_state, scale=1.0):
        return torch.stack([parts[task].detach() for task in TASKS])

    def update(self, statistics):
        losses = statistics.double().cpu()
        present = losses > 0  # exactly 0 is a head without a question in this step: its variance has nothing to learn
        if not losses.isfinite().all():
            return
        gradient = 0.5 - torch.exp(-self.log_variances) * losses
        self.log_variances.grad = torch.where(present, gradient, 0.0)
        self.optimizer.step()
        self.weights = dict(zip(TASKS, torch.exp(-self.log_variances).tolist()))

    def state_dict(self):
        moments = self.optimizer.state_dict()["state"].get(0, {})
        return {
            **super().state_dict(),
            "log_variances": self.log_variances.tolist(),
            "moments": {name: value.tolist() for name, value in moments.items()},
        }

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.log_variances.copy_(torch.tensor(state["log_variances"], dtype=torch.float64))
        moments = {name: torch.tensor(value, dtype=torch.float64) for name, value in state["moments"].items()}
        if moments:
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": {0: moments}})


class MGDAWeighting(FixedWeighting):
    """The convex combination of the two losses whose gradient at the fused state is shortest.

    Sener and Koltun 2018, "Multi-Task Learning as Multi-Objective Optimization": the upper bound of section 3.3 with
    the closed form for two tasks (equation 4). Weights come from the step before: with those of the same step the first
    micro-batch would have to wait for the last one. The first step has those given, scaled to the sum 1.
    """

    reads_fused_state = True

    def __init__(self, weights, args):
        super().__init__(weights, args)
        total = sum(weights.values())
        self.weights = {task: weight / total for task, weight in weights.items()}

    def statistics(self, parts, fused_state, scale=1.0):
        # Only the heads lie between these losses and the fused state.
        gradients = [
            torch.autograd.grad(scale * parts[task], fused_state, retain_graph=True)[0].float().flatten() / scale
            for task in TASKS
        ]
        binary, open_ended = gradients
        return torch.stack([binary @ binary, binary @ open_ended, open_ended @ open_ended])

    def update(self, statistics):
        binary, both, open_ended = statistics.tolist()
        # Without a question of one type in the step, the shortest combination would switch the other head off.
        if binary > 0 and open_ended > 0 and math.isfinite(binary + both + open_ended):
            share = shortest_combination(binary, both, open_ended)
            self.weights = {"binary": share, "open_ended": 1 - share}


TASK_WEIGHTINGS = {
    "fixed": GivenWeighting,
    "schedule": ScheduledWeighting,
    "uncertainty": UncertaintyWeighting,
    "mgda": MGDAWeighting,
}


def shortest_combination(first, product, second):
    """a in [0, 1] for which a g1 + (1 - a) g2 is shortest.

    Args:
        first, product, second: g1 . g1, g1 . g2 and g2 . g2.
    """
    distance = first - 2 * product + second
    return min(max((second - product) / distance, 0.0), 1.0) if distance > 0 else 0.5


def parse_schedule(rows):
    """["0-10:0.5/0.5", ...] -> [(0, 10, [0.5, 0.5]), ...] in the order of the epochs.

    Raises:
        ValueError: a row of another form, epochs that overlap or leave a hole, weights that are negative or all zero.
    """
    parsed = []
    for row in rows:
        match = SCHEDULE_ROW.fullmatch(str(row).strip())
        try:
            first, last, *values = [float(group) for group in match.groups()]
        except (AttributeError, ValueError):
            raise ValueError(
                f"task_weighting_schedule expects rows FIRST-LAST:YES_NO_WEIGHT/OPEN_ENDED_WEIGHT such as "
                f"{DEFAULT_SCHEDULE[0]}, found {row!r}"
            ) from None
        if min(values) < 0 or not any(values) or not all(map(math.isfinite, values)):
            raise ValueError(f"task_weighting_schedule {row}: weights must not be negative, and not all zero")
        if last < first:
            raise ValueError(f"task_weighting_schedule {row}: the last epoch is before the first")
        parsed.append((int(first), int(last), values))
    parsed.sort(key=lambda row: row[0])
    expected = 0
    for first, last, _ in parsed:
        if first != expected:
            trouble = f"has no weights for epoch {expected}" if first > expected else f"has epoch {first} twice"
            raise ValueError(f"task_weighting_schedule {' '.join(map(str, rows))} {trouble}")
        expected = last + 1
    if not parsed:
        raise ValueError("task_weighting_schedule has no rows")
    return parsed


def build_task_weighting(weights, args):
    """The weighting that the arguments name.

    Args:
        weights: dict task -> float, for the heads that the model has.
        args: [`DualVQATrainingArguments`].

    Raises:
        ValueError: a weighting of two losses for a model with one head, or weights that don't do.
    """
    kind = TASK_WEIGHTINGS[args.task_weighting]
    if kind.needs_both_heads and set(weights) != set(TASKS):
        raise ValueError(
            f"task_weighting {args.task_weighting} weighs two heads against each other, and this model has "
            f"{' and '.join(weights)} alone; use task_weighting fixed"
        )
    return kind(weights, args)

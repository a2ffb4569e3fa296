import math

import pytest
import torch

from dualvqa.trainer import DualVQATrainer
from dualvqa.training.arguments import DualVQATrainingArguments
from dualvqa.training.task_weighting import DEFAULT_SCHEDULE, build_task_weighting, parse_schedule, shortest_combination

EQUAL = {"binary": 1.0, "open_ended": 1.0}


@pytest.fixture
def arguments(tmp_path):
    def build(**fields):
        defaults = {"output_dir": tmp_path, "report_to": "none", "use_cpu": True, "disable_tqdm": True}
        return DualVQATrainingArguments(**{**defaults, "save_strategy": "no", **fields})

    return build


def weights_at(weighting, epoch):
    weighting.start_step(epoch)
    return weighting.weights["binary"], weighting.weights["open_ended"]


def test_the_schedule_of_the_design(arguments):
    weighting = build_task_weighting(EQUAL, arguments(task_weighting="schedule"))
    for epoch, expected in (
        (0, (0.5, 0.5)),
        (10.99, (0.5, 0.5)),
        (11, (0.3, 0.7)),
        (20.5, (0.3, 0.7)),
        (21, (0.2, 0.8)),
    ):
        assert weights_at(weighting, epoch) == expected
    assert weights_at(weighting, 99) == (0.2, 0.8)  # max_steps may go on for longer


def test_the_schedule_is_linear_on_request(arguments):
    weighting = build_task_weighting(EQUAL, arguments(task_weighting="schedule", task_weighting_linear=True))
    assert weights_at(weighting, 0) == (0.5, 0.5)
    assert weights_at(weighting, 5.5) == pytest.approx((0.4, 0.6))
    assert weights_at(weighting, 11) == (0.3, 0.7)
    assert weights_at(weighting, 16) == pytest.approx((0.25, 0.75))
    assert weights_at(weighting, 25) == (0.2, 0.8)


@pytest.mark.parametrize(
    "rows, message",
    [
        (["0-10:0.5/0.5", "10-20:1/1"], "has epoch 10 twice"),
        (["0-10:0.5/0.5", "12-20:1/1"], "has no weights for epoch 11"),
        (["1-10:0.5/0.5"], "has no weights for epoch 0"),
        (["0-10:-0.5/0.5"], "must not be negative"),
        (["0-10:0/0"], "not all zero"),
        (["0-10:nan/1"], "FIRST-LAST"),
        (["0-10:1e999/1"], "must not be negative, and not all zero|finite"),
        (["10-0:1/1"], "last epoch is before the first"),
        (["0:1/1"], "found '0:1/1'"),
        ([], "no rows"),
    ],
)
def test_schedules_that_do_not_do_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        parse_schedule(rows)


def test_the_rows_of_a_schedule_may_come_in_any_order():
    assert parse_schedule(DEFAULT_SCHEDULE[::-1]) == parse_schedule(DEFAULT_SCHEDULE)


def test_uncertainty_finds_the_weights_of_constant_losses(arguments):
    """exp(-s) L + s / 2 is least where exp(-s) = 1 / (2 L)."""
    weighting = build_task_weighting(EQUAL, arguments(task_weighting="uncertainty", task_weighting_learning_rate=0.05))
    for _ in range(400):
        weighting.update(torch.tensor([2.0, 0.25]))
    assert weighting.weights == pytest.approx({"binary": 0.25, "open_ended": 2.0}, rel=1e-3)


def test_uncertainty_takes_the_gradient_of_its_objective(arguments):
    given = {"binary": 0.5, "open_ended": 2.0}
    weighting = build_task_weighting(given, arguments(task_weighting="uncertainty"))
    assert weighting.weights == given
    losses = torch.tensor([0.3, 1.7], dtype=torch.float64)
    s = torch.tensor([-math.log(0.5), -math.log(2.0)], dtype=torch.float64, requires_grad=True)
    (torch.exp(-s) * losses + s / 2).sum().backward()
    weighting.update(losses)
    torch.testing.assert_close(weighting.log_variances.grad, s.grad)


def test_a_head_without_questions_keeps_its_uncertainty(arguments):
    weighting = build_task_weighting(EQUAL, arguments(task_weighting="uncertainty"))
    weighting.update(torch.tensor([0.0, 2.0]))
    assert weighting.weights["binary"] == 1.0 and weighting.weights["open_ended"] < 1.0


def test_uncertainty_goes_on_where_it_was(arguments):
    one, other = (build_task_weighting(EQUAL, arguments(task_weighting="uncertainty")) for _ in range(2))
    for weighting in (one, one, other):
        weighting.update(torch.tensor([0.4, 3.0]))
    resumed = build_task_weighting(EQUAL, arguments(task_weighting="uncertainty"))
    resumed.load_state_dict(other.state_dict())
    resumed.update(torch.tensor([0.4, 3.0]))
    assert resumed.weights == one.weights and resumed.state_dict() == one.state_dict()


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_the_shortest_combination_of_two_gradients(scale):
    one, other = torch.randn(7), scale * torch.randn(7)
    share = shortest_combination(*(float(product) for product in (one @ one, one @ other, other @ other)))
    lengths = [(a * one + (1 - a) * other).norm().item() for a in torch.linspace(0, 1, 1001)]
    assert (share * one + (1 - share) * other).norm().item() <= min(lengths) + 1e-6


def test_when_one_gradient_is_shorter_in_every_direction_it_is_taken_alone():
    assert shortest_combination(1.0, 2.0, 4.0) == 1.0 and shortest_combination(4.0, 2.0, 1.0) == 0.0
    assert shortest_combination(1.0, 1.0, 1.0) == 0.5


def test_mgda_reads_the_gradients_at_the_fused_state(arguments):
    weighting = build_task_weighting({"binary": 1.0, "open_ended": 3.0}, arguments(task_weighting="mgda"))
    assert weighting.weights == {"binary": 0.25, "open_ended": 0.75}
    heads = {"binary": torch.randn(4), "open_ended": torch.randn(4)}
    fused = torch.randn(3, 4, requires_grad=True)
    parts = {task: (fused @ head).sum() for task, head in heads.items()}
    found = weighting.statistics(parts, fused, scale=1024.0)
    one, other = heads["binary"].repeat(3), heads["open_ended"].repeat(3)
    torch.testing.assert_close(found, torch.stack([one @ one, one @ other, other @ other]))
    weighting.update(found)
    assert weighting.weights["binary"] == pytest.approx(shortest_combination(*found.tolist()))
    assert sum(weighting.weights.values()) == pytest.approx(1)
    kept = dict(weighting.weights)
    weighting.update(torch.tensor([0.0, 0.0, 1.0]))  # no yes/no question in the step
    assert weighting.weights == kept


@pytest.mark.parametrize("name", ["schedule", "uncertainty", "mgda"])
def test_one_head_has_nothing_to_be_weighed_against(tiny_model, arguments, name):
    with pytest.raises(ValueError, match=f"task_weighting {name} weighs two heads.* open_ended alone"):
        DualVQATrainer(tiny_model(heads=["open_ended"]), arguments(task_weighting=name))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"task_weighting": "best"}, "one of fixed, schedule, uncertainty, mgda; found 'best'"),
        ({"task_weighting": "schedule", "num_train_epochs": 40}, "ends with epoch 30, and training has epochs 0 to 39"),
        ({"task_weighting": "schedule", "binary_loss_weight": 0.5}, "have no effect with task_weighting schedule"),
        ({"task_weighting": "schedule", "task_weighting_schedule": ["0-1:1/1", "3-40:1/1"]}, "for epoch 2"),
        ({"task_weighting_learning_rate": 0.0}, "must be a finite number, above 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(arguments, fields, message):
    with pytest.raises(ValueError, match=message):
        arguments(**fields)


def test_weights_that_are_all_zero_are_refused(tiny_model, arguments):
    zero = {"binary_loss_weight": 0.0, "open_ended_loss_weight": 0.0}
    with pytest.raises(ValueError, match="binary and open_ended are all zero"):
        DualVQATrainer(tiny_model(), arguments(**zero))
    with pytest.raises(ValueError, match="binary are all zero"):
        DualVQATrainer(tiny_model(heads=["binary"]), arguments(binary_loss_weight=0.0))
    with pytest.raises(ValueError, match="starts at weights above 0"):
        DualVQATrainer(tiny_model(), arguments(task_weighting="uncertainty", binary_loss_weight=0.0))

import math

import pytest
import torch
from torch import nn

from modeling_dualvqa.loss_dualvqa import class_weights, count_valid, dual_head_loss, focal_loss, soft_focal_loss


def logits_of(probabilities):
    """Logits whose softmax is `probabilities`, not normalised, so that a wrong softmax would show."""
    return torch.tensor(probabilities).log() + 0.7


def test_gamma_zero_is_cross_entropy():
    logits, labels = torch.randn(6, 5), torch.tensor([0, 4, 2, 2, 1, 3])
    expected = nn.functional.cross_entropy(logits, labels, reduction="sum")
    torch.testing.assert_close(focal_loss(logits, labels, gamma=0.0), expected)


def test_a_value_computed_by_hand():
    logits = logits_of([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]])
    # -(1 - 0.2)^2.5 ln 0.2 - (1 - 0.5)^2.5 ln 0.5
    expected = 0.8**2.5 * -math.log(0.2) + 0.5**2.5 * -math.log(0.5)
    assert expected == pytest.approx(1.0438, abs=1e-4)
    assert focal_loss(logits, torch.tensor([1, 2]), gamma=2.5).item() == pytest.approx(expected, rel=1e-5)


def test_alpha_weighs_each_class():
    logits = logits_of([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]])
    alpha = torch.tensor([10.0, 0.5, 3.0])
    expected = 0.5 * 0.8**2.5 * -math.log(0.2) + 3.0 * 0.5**2.5 * -math.log(0.5)
    assert focal_loss(logits, torch.tensor([1, 2]), 2.5, alpha).item() == pytest.approx(expected, rel=1e-5)


def test_rows_without_label_have_exactly_zero_gradient():
    logits = torch.randn(4, 3, requires_grad=True)
    focal_loss(logits, torch.tensor([1, -100, 0, -100])).backward()
    assert torch.equal(logits.grad[[1, 3]], torch.zeros(2, 3))
    assert (logits.grad[[0, 2]].abs().sum(dim=1) > 0).all()


def test_even_nonsense_in_rows_without_label_does_no_harm():
    logits = torch.tensor([[1.0, 2.0], [math.nan, math.inf]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([1, -100]))
    loss.backward()
    assert loss.isfinite() and torch.equal(logits.grad[1], torch.zeros(2))


def test_no_valid_row_gives_zero_that_can_be_differentiated():
    logits = torch.randn(2, 3, requires_grad=True)
    loss = focal_loss(logits, torch.tensor([-100, -100]))
    loss.backward()
    assert loss.item() == 0 and torch.equal(logits.grad, torch.zeros(2, 3))


@pytest.mark.parametrize("gamma", [0.5, 2.5])
def test_certainty_has_finite_gradients(gamma):
    logits = torch.tensor([[100.0, -100.0], [-100.0, 100.0]], requires_grad=True)
    focal_loss(logits, torch.tensor([0, 0]), gamma).backward()
    assert logits.grad.isfinite().all()


def test_half_precision_logits_are_summed_in_full_precision():
    logits = torch.randn(300, 50).bfloat16()
    assert focal_loss(logits, torch.zeros(300, dtype=torch.long)).dtype == torch.float32


def test_each_head_has_its_own_count_and_weight():
    logits = {
        "binary": logits_of([[0.6, 0.4], [0.9, 0.1], [0.5, 0.5]]),
        "open_ended": logits_of([[0.7, 0.2, 0.1]] * 3),
        "question_type": logits_of([[0.8, 0.2]] * 3),
    }
    labels = {
        "binary": torch.tensor([0, 1, -100]),
        "open_ended": torch.tensor([-100, -100, 2]),
        "question_type": torch.tensor([0, 0, 1]),
    }
    weights = {"binary": 0.3, "open_ended": 0.7, "question_type": 0.1}
    binary = (-math.log(0.6) - math.log(0.1)) / 2
    open_ended = -math.log(0.1)
    router = (-2 * math.log(0.8) - math.log(0.2)) / 3
    loss, parts = dual_head_loss(logits, labels, weights, gamma=0.0)
    assert loss.item() == pytest.approx(0.3 * binary + 0.7 * open_ended + 0.1 * router, rel=1e-5)
    assert parts["binary"].item() == pytest.approx(binary, rel=1e-5)

    counts = {name: torch.tensor(8.0) for name in weights}
    _, parts = dual_head_loss(logits, labels, weights, counts, gamma=2.5)
    assert parts["open_ended"].item() == pytest.approx(0.9**2.5 * open_ended / 8, rel=1e-5)
    assert parts["question_type"].item() == pytest.approx(router * 3 / 8, rel=1e-5)  # the router's is never focal


@pytest.mark.parametrize("alpha", [None, torch.tensor([0.5, 2.0, 1.0, 3.0])])
def test_label_smoothing_is_torchs_without_focusing(alpha):
    logits, labels = torch.randn(6, 4), torch.tensor([0, 3, 2, 2, 1, -100])
    expected = nn.functional.cross_entropy(logits, labels, alpha, reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(focal_loss(logits, labels, 0.0, alpha, label_smoothing=0.1), expected)


def test_label_smoothing_with_focusing_by_hand():
    logits = logits_of([[0.7, 0.2, 0.1]])
    terms = [(1 - p) ** 2.5 * -math.log(p) for p in (0.7, 0.2, 0.1)]
    expected = (0.9 + 0.1 / 3) * terms[1] + 0.1 / 3 * (terms[0] + terms[2])
    assert focal_loss(logits, torch.tensor([1]), 2.5, None, 0.1).item() == pytest.approx(expected, rel=1e-5)


def test_the_router_is_neither_smoothed_nor_focused():
    logits = {"question_type": torch.randn(5, 2), "binary": torch.randn(5, 2)}
    labels = {"question_type": torch.tensor([0, 1, 1, 0, 1]), "binary": torch.tensor([0, -100, -100, 1, -100])}
    _, parts = dual_head_loss(logits, labels, {"question_type": 1.0, "binary": 1.0}, label_smoothing=0.2)
    expected = nn.functional.cross_entropy(logits["question_type"], labels["question_type"])
    torch.testing.assert_close(parts["question_type"], expected)
    smoothed = focal_loss(logits["binary"], labels["binary"], 2.5, None, 0.2) / 2
    torch.testing.assert_close(parts["binary"], smoothed)


def test_class_weights_by_hand():
    counts = [4, 1, 0, 2]
    assert class_weights(counts, "none") is None
    # 1/4, 1 and 1/2 have the mean 7/12; what never occurs has no weight
    torch.testing.assert_close(class_weights(counts, "inverse"), torch.tensor([3 / 7, 12 / 7, 0, 6 / 7]))
    # (1 - b) / (1 - b^n) with b = 1/2: 1/2 over 15/16, 1/2 and 3/4: 8/15, 1 and 2/3, whose mean is 11/15
    torch.testing.assert_close(
        class_weights(counts, "effective", 0.5), torch.tensor([8 / 11, 15 / 11, 0, 10 / 11]), rtol=1e-6, atol=0
    )


def test_effective_weights_lie_between_none_and_inverse():
    counts = [100, 10, 1]
    torch.testing.assert_close(class_weights(counts, "effective", 0.0), torch.ones(3))
    torch.testing.assert_close(class_weights(counts, "effective", 1 - 1e-9), class_weights(counts, "inverse"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([1], "sqrt"), "one of none, inverse, effective; found 'sqrt'"),
        (([1], "effective", 1.0), r"in \[0, 1\), found 1.0"),
        (([0, 0], "inverse"), "found none"),
    ],
)
def test_class_weights_that_cannot_be_computed_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        class_weights(*arguments)


def test_soft_labels_without_focus_are_binary_cross_entropy_over_all_answers():
    logits, targets = torch.randn(3, 4), torch.tensor([[0.3, 0.9, 0.0, 1.0], [0.0] * 4, [-100.0] * 4])
    p = logits[:2].sigmoid()
    expected = -(targets[:2] * p.log() + (1 - targets[:2]) * (1 - p).log()).sum()
    torch.testing.assert_close(soft_focal_loss(logits, targets, gamma=0.0), expected)


@pytest.mark.parametrize("gamma", [0.5, 2.5])
def test_soft_labels_have_their_minimum_where_the_probability_is_the_label(gamma):
    targets = torch.full((999, 1), 0.3)
    losses = [
        soft_focal_loss(torch.tensor([[p]]).logit(), targets[:1], gamma).item() for p in torch.arange(1, 100) / 100
    ]
    assert min(range(99), key=losses.__getitem__) == 29


def test_soft_labels_of_no_doubt_give_the_focal_loss_of_yes_and_no():
    logits, labels = {"binary": torch.randn(5, 2)}, torch.tensor([0, 1, -100, 1, 0])
    soft = nn.functional.one_hot(labels.clamp(min=0), 2).float()
    soft[2] = -100
    hard, _ = dual_head_loss(logits, {"binary": labels}, {"binary": 1.0}, gamma=2.0)
    found, _ = dual_head_loss(logits, {"binary": soft}, {"binary": 1.0}, gamma=2.0)
    torch.testing.assert_close(found, hard, rtol=1e-4, atol=1e-6)


def test_class_weights_weigh_each_answers_own_probability():
    logits, targets, alpha = torch.zeros(1, 2), torch.tensor([[1.0, 0.25]]), torch.tensor([3.0, 0.5])
    assert soft_focal_loss(logits, targets, 0.0, alpha).item() == pytest.approx(3.5 * math.log(2))


def test_soft_rows_that_are_masked_do_not_count_and_have_no_gradient():
    logits = torch.randn(3, 4, requires_grad=True)
    targets = torch.tensor([[0.0] * 4, [-100.0] * 4, [0.6, 0.0, 0.3, 0.0]])
    assert count_valid(targets) == 2
    soft_focal_loss(logits, targets).backward()
    assert torch.equal(logits.grad[1], torch.zeros(4)) and (logits.grad[[0, 2]] != 0).all()
    logits.grad = None
    soft_focal_loss(logits, torch.full((3, 4), -100.0)).backward()  # a batch without any: still in the graph
    assert torch.equal(logits.grad, torch.zeros(3, 4))


def test_label_smoothing_of_soft_labels_is_refused():
    with pytest.raises(ValueError, match="label smoothing is for hard labels"):
        labels = {"open_ended": torch.ones(1, 3)}
        dual_head_loss({"open_ended": torch.zeros(1, 3)}, labels, {"open_ended": 1.0}, label_smoothing=0.1)

"""Batch norms that are folded change nothing but rounding, whatever the order of a network's layers."""

import copy

import pytest
import torch
from torch import nn

from dualvqa.deployment.folding import fold_batch_norms, folded
from modeling_dualvqa.encoders_dualvqa import TowerOutput


class Tower(nn.Module):
    """Two convolutions with batch norms, named in another order than that in which they compute."""

    config = None

    def __init__(self, both=False):
        super().__init__()
        self.model, self.both = nn.Module(), both
        self.model.config = type("Config", (), {"image_size": 16})()
        self.second, self.second_norm = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.first, self.first_norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        for norm in (self.first_norm, self.second_norm):
            for values in (norm.weight.data, norm.running_var):
                values.uniform_(0.5, 2)
            for values in (norm.bias.data, norm.running_mean):
                values.uniform_(-1, 1)

    def forward(self, pixels):
        first = self.first(pixels)
        maps = self.second_norm(self.second(self.first_norm(first).relu()))
        return TowerOutput((maps + first if self.both else maps).flatten(2).transpose(1, 2))


def norms(tower):
    return sum(isinstance(module, nn.BatchNorm2d) for module in tower.modules())


def test_a_batch_norm_goes_into_the_convolution_that_it_follows_in_computation():
    tower, pixels = Tower().eval(), torch.rand(2, 3, 16, 16)
    expected = tower(pixels).states
    fold_batch_norms(tower)
    assert norms(tower) == 0
    torch.testing.assert_close(tower(pixels).states, expected, rtol=1e-4, atol=1e-5)


def test_a_tower_that_needs_a_convolution_as_it_was_keeps_its_batch_norms():
    tower, pixels = Tower(both=True).eval(), torch.rand(2, 3, 16, 16)
    expected = tower(pixels).states
    fold_batch_norms(tower)
    assert norms(tower) == 2 and torch.equal(tower(pixels).states, expected)


def test_a_folded_copy_leaves_the_tower_as_it_was_and_shares_what_is_the_same():
    tower = Tower().eval()
    tower.rest = nn.Linear(2, 2)
    before = copy.deepcopy(tower.state_dict())
    twin = folded(tower)
    assert norms(twin) == 0 and norms(tower) == 2 and twin.rest.weight is tower.rest.weight
    assert all(torch.equal(values, before[name]) for name, values in tower.state_dict().items())


def test_the_activation_inside_a_batch_norm_of_timm_stays():
    layers = pytest.importorskip("timm.layers", reason="timm isn't installed: pip install dualvqa[timm]")
    tower = Tower().eval()
    tower.first_norm = layers.BatchNormAct2d(4, act_layer=nn.Sigmoid).eval()
    tower.first_norm.running_mean.uniform_(-1, 1)
    pixels = torch.rand(2, 3, 16, 16)
    expected = tower(pixels).states
    fold_batch_norms(tower)
    assert norms(tower) == 0
    torch.testing.assert_close(tower(pixels).states, expected, rtol=1e-4, atol=1e-5)

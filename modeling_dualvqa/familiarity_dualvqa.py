"""How far a question and its image are from those that the model was trained on."""

import torch
from torch import nn


class Familiarity(nn.Module):
    """Squared Mahalanobis distance of fused states to those of training.

    One Gaussian with one covariance (Lee et al. 2018, equation 2, without classes: open-ended answers are too many and
    too rare for a mean of their own). `dualvqa.trust.familiarity.fit_gaussian` makes both buffers, which are saved with
    the weights; of zeros every distance is zero.

    Args:
        width: D of the fused states.
    """

    def __init__(self, width):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("whitening", torch.zeros(width, width))  # W with W W^T the inverse covariance

    def forward(self, states):
        """(B, D) -> (B,), in float32: squares of half precision would overflow."""
        whitened = (states.float() - self.mean.float()) @ self.whitening.float()  # (B, D)
        return whitened.square().sum(dim=-1)

"""How far a question and its image are from those that the model was trained on."""

import torch
from torch import nn

from .memory_examples_dualvqa import image_vectors, question_vectors

TOWERS = ("image", "question")
SHARED = ("nearest", "far", "near")  # scores of every tower, before those of its foreign directions
SIZES = {"width", "keys", "key_width", "directions"}
TINY = 1e-6


class Familiarity(nn.Module):
    """Squared Mahalanobis distance of fused states to those of training: of folders saved by earlier versions.

    One Gaussian with one covariance (Lee et al. 2018, equation 2, without classes). Of zeros every distance is zero.

    Args:
        width: D of the fused states.
    """

    def __init__(self, width):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("whitening", torch.zeros(width, width))  # W with W W^T the inverse covariance
        self.settings = True  # in the configuration

    def forward(self, states):
        """(B, D) -> (B,), in float32: squares of half precision would overflow."""
        whitened = (states.float() - self.mean.float()) @ self.whitening.float()  # (B, D)
        return whitened.square().sum(dim=-1)


class TowerFamiliarity(nn.Module):
    """How unlike those of training the states of one tower are: the largest of several scores, each on its own scale.

    - `nearest`: one less the cosine to the nearest kept training state, both from their mean (Sun et al. 2022)
    - `far`, `near`: the logarithm of the distance from the mean, and its negative: too near is foreign too
    - one for each foreign direction: the linear discriminant between training states and those of one kind of foreign
      inputs that the fit has shown the tower (outlier exposure, Hendrycks et al. 2019, by Fisher's discriminant)

    `dualvqa.trust.familiarity.fit_tower` makes the buffers. They stay in float32 whatever the model's precision, and
    are saved in half of it. Of zeros everything is equally familiar.

    Args:
        width: C of the tower's states.
        keys, key_width: how many training states are kept, and in how many of their principal directions.
        directions: how many kinds of foreign inputs there are.
    """

    def __init__(self, width, keys, key_width, directions):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float32))
        self.register_buffer("basis", torch.zeros(width, key_width, dtype=torch.float32))
        self.register_buffer("keys", torch.zeros(keys, key_width, dtype=torch.float32))
        self.register_buffer("foreign", torch.zeros(width, directions, dtype=torch.float32))
        self.register_buffer("centre", torch.zeros(len(SHARED) + directions, dtype=torch.float32))
        self.register_buffer("scale", torch.zeros(len(SHARED) + directions, dtype=torch.float32))

    def scores(self, vectors):
        """(N, C) -> (N, S) in float32, larger for what is less familiar, not yet on one scale."""
        centred = vectors.float() - self.mean
        distance = centred.norm(dim=-1, keepdim=True).clamp(min=TINY)  # (N, 1)
        cosines = (centred / distance) @ self.basis @ self.keys.T  # (N, M)
        distance = distance.log()
        return torch.cat([1 - cosines.amax(dim=-1, keepdim=True), distance, -distance, centred @ self.foreign], dim=-1)

    def forward(self, vectors):
        """(N, C) -> (N,): how many times further out than nearly all training states the most unlike score is."""
        return ((self.scores(vectors) - self.centre) * self.scale).amax(dim=-1)

    def _apply(self, function, recurse=True):
        """As in torch, but for the precision: see the class."""
        for name, buffer in self.named_buffers():
            moved = function(buffer if buffer.is_meta else buffer.new_empty(0))
            self._buffers[name] = moved.to(buffer.dtype) if buffer.is_meta else buffer.to(moved.device)
        return self


class TowersFamiliarity(nn.ModuleDict):
    """Both towers' [`TowerFamiliarity`], by "image" and "question".

    Args:
        settings: tower -> the arguments of its [`TowerFamiliarity`].

    Raises:
        ValueError: one is missing, or of no size.
    """

    def __init__(self, settings):
        for tower in TOWERS:
            sizes = settings.get(tower)
            right = isinstance(sizes, dict) and set(sizes) == SIZES
            if not right or not all(type(size) is int and size >= 0 for size in sizes.values()):
                raise ValueError(f"familiarity of {tower} must have {', '.join(sorted(SIZES))}; found {sizes!r:.100}")
        super().__init__({tower: TowerFamiliarity(**settings[tower]) for tower in TOWERS})
        self.settings = settings

    def forward(self, text_states, image_states, attention_mask=None, image_index=None, question_index=None):
        """`image_novelty` and `question_novelty` (B,), by name; arguments as of the memory's `forward`."""
        image = self["image"](image_vectors(image_states))  # (U,)
        question = self["question"](question_vectors(text_states, attention_mask))  # (V,)
        return {
            "image_novelty": image if image_index is None else image[image_index],
            "question_novelty": question if question_index is None else question[question_index],
        }


def build_familiarity(settings, width):
    """What `config.familiarity` asks for: None, one Gaussian of fused states of this width, or that of both towers."""
    if isinstance(settings, dict):
        return TowersFamiliarity(settings)
    return Familiarity(width) if settings else None


def novelties(familiarity, fused_state, text_states, image_states, *indices):
    """The fields of [`DualVQAOutput`] that a model's familiarity gives, by name; none without one."""
    if familiarity is None:
        return {}
    if isinstance(familiarity, Familiarity):
        return {"novelty": familiarity(fused_state)}
    return familiarity(text_states, image_states, *indices)

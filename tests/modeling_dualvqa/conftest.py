import pytest
import torch
from PIL import Image

from modeling_dualvqa import DualVQAPipeline


@pytest.fixture
def model(tiny_model):
    model = tiny_model(fusion_type="cross_attention")
    for head in (model.binary_head, model.open_ended_head):  # larger steps between scores than rounding makes
        torch.nn.init.normal_(head[-1].weight, std=3.0)
    return model


@pytest.fixture
def pipe(model, processor):
    return DualVQAPipeline(model, processor)


@pytest.fixture
def image_paths(tmp_path):
    """Paths of three images that differ."""
    paths = []
    for name, size in (("a", (40, 30)), ("b", (30, 40)), ("c", (33, 33))):
        paths.append(str(tmp_path / f"{name}.png"))
        Image.effect_noise(size, 90).convert("RGB").save(paths[-1])
    return paths

"""Images of unusual shapes become pixels in little memory."""

import numpy as np
import pytest
from PIL import Image

from dualvqa_light import preprocessing
from dualvqa_light.preprocessing import to_pixels, without_ends
from processing.image_processing_dualvqa import DualVQAImageProcessor

SETTINGS = {
    "resize": {"shortest_edge": 16},
    "resample": "bicubic",
    "crop": {"height": 14, "width": 14},
    "scale": 1 / 255,
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
}


@pytest.mark.parametrize("size", [(601, 6), (6, 600), (900, 1)])
def test_of_a_very_long_image_only_what_the_crop_may_show_is_resized(monkeypatch, size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    short = without_ends(image, SETTINGS["resize"], SETTINGS["crop"])
    assert max(short.size) < 150 and min(short.size) == min(size)
    found = to_pixels(image, SETTINGS)
    processor = DualVQAImageProcessor(
        size=SETTINGS["resize"],
        crop_size=SETTINGS["crop"],
        do_center_crop=True,
        resample=Image.Resampling.BICUBIC,
        image_mean=SETTINGS["mean"],
        image_std=SETTINGS["std"],
    )
    torchs = processor(images=image, return_tensors="np")["pixel_values"]
    assert found.shape == torchs.shape and np.abs(found - torchs).max() < 2.5 / 127
    monkeypatch.setattr(preprocessing, "without_ends", lambda image, *_: image)
    assert np.abs(found - to_pixels(image, SETTINGS)).max() < 0.1


@pytest.mark.parametrize("size", [(40, 40), (40, 30), (280, 41)])
def test_of_other_images_nothing_is_cut_before(size):
    image = Image.new("RGB", size)
    assert without_ends(image, {"shortest_edge": 16}, {"height": 14, "width": 14}) is image
    assert without_ends(image, {"height": 16, "width": 16}, None) is image


def test_a_small_crop_of_a_large_image_keeps_its_scale():
    assert without_ends(Image.new("RGB", (90, 100)), {"shortest_edge": 900}, {"height": 9, "width": 9}).size == (90, 90)

"""A tower gets images as it was trained with them, from wherever its own processor says how, unless overruled."""

import json
import logging

import numpy as np
import pytest
import torch
import torchvision
from helpers import TEXT
from PIL import Image
from torchvision.transforms import InterpolationMode
from transformers import (
    AutoImageProcessor,
    CLIPImageProcessor,
    ConvNextImageProcessor,
    EfficientNetImageProcessor,
    MobileViTImageProcessor,
    SiglipImageProcessor,
    ViTConfig,
    ViTModel,
)

from dualvqa import DualVQAPipeline, build_model
from dualvqa.training.building import NewModelArguments
from dualvqa.training.new_model_checks import check_new_model
from dualvqa.training.tower_images import build_image_processor, timm_readings
from processing import VQACollator
from processing.collator import AugmentationArguments, build_augmentation

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
TIMM = {"architecture": "tf_efficientnet_lite0", "model_type": "timm_wrapper", "num_classes": 1000}
PRETRAINED = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 64, 64], "interpolation": "bilinear"}
PRETRAINED |= {"crop_pct": 0.8, "crop_mode": "center", "num_classes": 1000}


@pytest.fixture
def picture():
    values = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((140, 100), Image.Resampling.BICUBIC)


@pytest.fixture
def tower(tmp_path):
    """A folder with the configuration of a ViT of 32 pixels, and what is given of an image processor."""

    def write(image_processor=None):
        ViTConfig(**SMALL, image_size=32, patch_size=16).save_pretrained(tmp_path)
        if image_processor is not None:
            image_processor.save_pretrained(tmp_path)
        return str(tmp_path)

    return write


@pytest.fixture
def timm_tower(tmp_path):
    def write(**fields):
        (tmp_path / "config.json").write_text(json.dumps({**TIMM, **fields}))
        return str(tmp_path)

    return write


def processor_of(name, **settings):
    return build_image_processor(NewModelArguments(vision_model_name_or_path=name, **settings), None)


def difference(ours, theirs, image):
    ours, theirs = (one(images=image, return_tensors="pt")["pixel_values"] for one in (ours, theirs))
    assert ours.shape == theirs.shape
    return (ours - theirs).abs().max().item()


@pytest.mark.parametrize(
    "own",
    [
        CLIPImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}),
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 24}, resample=2),
        SiglipImageProcessor(size={"height": 32, "width": 48}),
        ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.8),
        EfficientNetImageProcessor(size={"height": 32, "width": 32}, image_std=[0.5, 0.4, 0.3]),
        EfficientNetImageProcessor(size={"height": 32, "width": 32}, rescale_offset=True, rescale_factor=1 / 127.5),
    ],
    ids=lambda own: type(own).__name__,
)
def test_images_are_those_of_the_towers_own_processor(tower, own, picture, caplog):
    found = processor_of(tower(own))
    for image in (picture, picture.transpose(Image.Transpose.ROTATE_90)):
        assert difference(found, own, image) < 2e-4
    assert "not quite" not in caplog.text


def test_what_a_clip_says_is_taken_to_the_last_digit(tower):
    found = processor_of(tower(CLIPImageProcessor()))
    assert found.image_mean == CLIP_MEAN and found.resample == 3
    assert dict(found.size) == {"shortest_edge": 224} and dict(found.crop_size) == {"height": 224, "width": 224}


def test_timms_own_configuration_is_taken(timm_tower, picture):
    name = timm_tower(pretrained_cfg=PRETRAINED)
    found = processor_of(name)
    assert found.image_mean == (0.1, 0.2, 0.3) and found.image_std == (0.4, 0.5, 0.6)
    assert dict(found.size) == {"shortest_edge": 80} and dict(found.crop_size) == {"height": 64, "width": 64}
    assert difference(found, AutoImageProcessor.from_pretrained(name), picture) < 0.05


def test_a_timm_folder_without_it_is_taken_for_its_architectures_usual_weights(timm_tower, caplog):
    caplog.set_level(logging.INFO)
    found = processor_of(timm_tower())
    assert found.image_mean == (0.5,) * 3 and found.resample == 3 and dict(found.size) == {"shortest_edge": 256}
    assert "of that the centre, 224 x 224" in caplog.text and "can't be read" not in caplog.text


def test_timms_squashed_images_are_squashed():
    data = {"input_size": (3, 64, 64), "crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bicubic"}
    (found,) = timm_readings({**data, "mean": [0.5] * 3, "std": [0.5] * 3})
    assert found["size"] == {"height": 64, "width": 64}


def test_a_torchvision_tower_has_the_images_of_its_weights(picture):
    found = processor_of("efficientnet_b3")
    preset = torchvision.models.get_model_weights("efficientnet_b3").DEFAULT.transforms()
    assert preset.interpolation == InterpolationMode.BICUBIC and preset.crop_size == [300]
    pixels = found(images=picture, return_tensors="pt")["pixel_values"][0]
    assert (pixels - preset(picture)).abs().max() < 0.06  # that of uint8 pixels, rounded


def test_what_is_given_goes_before_what_the_tower_says(tower):
    name = tower(CLIPImageProcessor(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}))
    larger = processor_of(name, image_size=64, image_interpolation="nearest", image_std=[1.0, 2.0, 3.0])
    assert dict(larger.size) == {"shortest_edge": 80} and dict(larger.crop_size) == {"height": 64, "width": 64}
    assert larger.resample == 0 and larger.image_std == (1.0, 2.0, 3.0) and larger.image_mean == CLIP_MEAN
    whole = processor_of(name, image_crop=False)
    assert dict(whole.size) == {"height": 32, "width": 32} and not whole.do_center_crop
    cropped = processor_of(tower(SiglipImageProcessor(size={"height": 32, "width": 32})), image_crop=True)
    assert dict(cropped.size) == {"shortest_edge": 32} and dict(cropped.crop_size) == {"height": 32, "width": 32}


def test_a_tower_that_says_nothing_of_its_images_is_named(tower, caplog):
    name = tower()
    build_image_processor(NewModelArguments(vision_model_name_or_path=name), ViTConfig(image_size=32))
    assert f"how the images of {name} were made can't be read: what isn't given with" in caplog.text
    assert "preprocessor_config.json" in caplog.text


def test_what_is_done_to_images_beside_is_said(tower, caplog):
    flips = MobileViTImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32})
    processor_of(tower(flips))
    assert "MobileViTImageProcessor" in caplog.text and "not quite those that it was trained with" in caplog.text


def test_a_size_that_the_tower_cannot_take_is_refused_before_the_data_are_read(tower):
    name = tower(SiglipImageProcessor(size={"height": 32, "width": 32}))
    check_new_model(NewModelArguments(vision_model_name_or_path=name), {"text_config": TEXT})
    with pytest.raises(ValueError, match=r"can't take images of 48 x 48 pixels \(.*leave image_size out, or give 32"):
        check_new_model(NewModelArguments(vision_model_name_or_path=name, image_size=48), {"text_config": TEXT})
    with pytest.raises(ValueError, match="image_interpolation must be one of nearest, .*found 'cubic'"):
        NewModelArguments(image_interpolation="cubic").check_image_statistics()


@pytest.fixture
def cropped(tower, image_folder):
    """A model whose images are cropped, its processor and a picture with an edge that the crop takes away."""
    own = CLIPImageProcessor(size={"shortest_edge": 48}, crop_size={"height": 32, "width": 32})
    name = tower(own)
    torch.manual_seed(0)
    ViTModel(ViTConfig(**SMALL, image_size=32, patch_size=16)).save_pretrained(name)
    tiny = {"text_config": TEXT, "fusion_hidden_size": 16, "fusion_num_attention_heads": 2, "preset": "none"}
    rows = [{"image": str(image_folder / "0.png"), "question": "what color is it?", "answer": "red"}]
    model, processor = build_model(rows, vision=name, **tiny)
    return model.eval(), processor, own


def test_the_pipeline_and_the_saved_folder_crop_as_the_tower_did(cropped, picture, tmp_path):
    model, processor, own = cropped
    expected = own(images=picture, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(DualVQAPipeline(model, processor).prepare(picture)["pixel_values"], expected)
    processor.save_pretrained(tmp_path / "saved")
    again = type(processor).from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(again(images=picture, return_tensors="pt")["pixel_values"], expected)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_training_sees_the_same_part_of_an_image(cropped, picture, scale):
    _, processor, own = cropped
    expected = own(images=picture, return_tensors="pt")["pixel_values"]
    augmentation = build_augmentation(AugmentationArguments(random_crop_scale=scale, color_jitter=0.0))
    collator = VQACollator(processor, augmentation)
    frame = {"size": {"shortest_edge": 48}, "crop_size": {"height": 32, "width": 32}}
    larger = {"size": {"shortest_edge": 68}, "crop_size": {"height": 45, "width": 45}}
    assert collator.frame == (frame if scale == 1 else larger)
    row = {"image": picture, "image_key": "a", "question": "what color is it?"}
    pixels = collator([row])["pixel_values"]
    assert pixels.shape == expected.shape
    if scale == 1:
        torch.testing.assert_close(pixels, expected, atol=2e-4, rtol=0)


def test_onnx_files_are_of_images_of_the_crops_size(cropped):
    from dualvqa.deployment.onnx_export import image_size

    model, processor, _ = cropped
    assert image_size(model, processor) == (32, 32)


def test_a_saved_dualvqa_folder_gives_its_own_images(cropped, tmp_path):
    model, processor, _ = cropped
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    found = processor_of(str(tmp_path / "saved"))
    assert dict(found.size) == {"shortest_edge": 48} and found.do_center_crop and found.image_mean == CLIP_MEAN

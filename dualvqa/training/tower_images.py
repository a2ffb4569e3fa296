"""How images are made for a vision tower: as its own processor made them, unless the settings say otherwise."""

import logging
import math

import numpy as np
import torchvision
from PIL import Image
from transformers import AutoImageProcessor
from transformers.image_utils import PILImageResampling, torch_pil_interpolation_mapping

from modeling_dualvqa.encoders_dualvqa import is_torchvision_name
from modeling_dualvqa.weights_dualvqa import pretrained_config
from processing import DualVQAImageProcessor, DualVQAProcessor
from processing.image_processing_dualvqa import made_size
from processing.wording import worded

logger = logging.getLogger(__name__)

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
SAME = 0.02  # mean difference to the tower's own images, in their deviations, up to which they are called the same
FIELDS = ("size", "do_center_crop", "crop_size", "resample", "do_rescale", "rescale_factor", "do_normalize")
FIELDS += ("image_mean", "image_std")


def build_image_processor(args, vision_config, size=None, told=True):
    """The image processor of a new model.

    Args:
        args: [`NewModelArguments`], whose `image_...` overrule what the tower's own processor says.
        vision_config: the tower's configuration.
        size: a size that is chosen elsewhere, in the configuration's fields; `args.image_size` goes before it.
        told: whether the log says how images are made.
    """
    name, size = args.vision_model_name_or_path, args.image_size or size
    settings = trained_settings(name, told) if name else {}
    if not settings:
        size = size or getattr(vision_config, "image_size", None) or 224
    processor = DualVQAImageProcessor(**overruled(settings, size, args))
    if name and told:
        logger.info("images for %s: %s", name, in_words(processor))
    return processor


def trained_settings(name, told=True):
    """The settings of a [`DualVQAImageProcessor`] that makes images as the pretrained tower `name` had them.

    Args:
        told: whether a warning says what can't be done as the tower had it.

    Returns:
        A dict, empty where the tower says nothing of its images.
    """
    if is_torchvision_name(name):
        preset = torchvision.models.get_model_weights(name).DEFAULT.transforms()
        return {
            "size": {"shortest_edge": preset.resize_size[0]},
            "do_center_crop": True,
            "crop_size": square(preset.crop_size[0]),
            "resample": torch_pil_interpolation_mapping[preset.interpolation],
            "image_mean": list(preset.mean),
            "image_std": list(preset.std),
        }
    config = pretrained_config(name, "vision_config")
    if config.model_type == "dualvqa":
        own = DualVQAProcessor.from_pretrained(name).image_processor
        return {key: value for key, value in own.to_dict().items() if key in FIELDS and value is not None}
    try:
        own = own_processor(name, config)
    except (OSError, ValueError, TypeError, ImportError, KeyError, AttributeError) as error:
        if told:
            logger.warning(
                "how the images of %s were made can't be read: what isn't given with %s is a default (%s)",
                name,
                worded("--image_size, --image_crop, --image_interpolation, --image_mean and --image_std"),
                " ".join(str(error).split())[:600],
            )
        return {}
    readings = timm_readings(own.data_config) if hasattr(own, "data_config") else field_readings(own)
    best, problem = closest(readings, own)
    if problem and told:
        logger.warning(problem, name)
    return best


def own_processor(name, config):
    """The image processor that a tower was saved with.

    A folder of timm's wrapper that doesn't say which weights it has is taken for the architecture's usual ones.

    Raises:
        whatever transformers raises where there is none.
    """
    try:
        return AutoImageProcessor.from_pretrained(name)
    except (OSError, ValueError, TypeError, AttributeError):
        if config.model_type != "timm_wrapper":
            raise
    import timm
    from transformers import TimmWrapperImageProcessor

    pretrained = timm.get_pretrained_cfg(config.architecture)
    if pretrained is None:
        raise ValueError(f"timm knows no weights of {config.architecture}")
    fields = pretrained.to_dict()
    size = (config.model_args or {}).get("img_size")
    if size:
        fields["input_size"] = (3, *pair(size))
    return TimmWrapperImageProcessor(pretrained_cfg=fields, architecture=config.architecture)


def timm_readings(data):
    """What timm's data configuration may mean, the likeliest first."""
    height, width = data["input_size"][1:]
    larger = [math.floor(side / data["crop_pct"]) for side in (height, width)]
    common = {
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "resample": PILImageResampling[data["interpolation"].upper()],
        "image_mean": list(data["mean"]),
        "image_std": list(data["std"]),
    }
    squashed = {**common, "size": {"height": larger[0], "width": larger[1]}}
    if data["crop_mode"] == "squash":
        return [squashed]
    return [{**common, "size": {"shortest_edge": max(larger)}}, squashed]


def field_readings(own):
    """What the fields of an image processor of transformers may mean, the likeliest first."""
    found = {name: getattr(own, name, None) for name in FIELDS}
    settings = {name: found[name] for name in ("resample", "do_rescale", "rescale_factor") if found[name] is not None}
    if found["do_normalize"]:
        settings |= {name: three(found[name]) for name in ("image_mean", "image_std") if found[name] is not None}
    else:
        settings |= {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    size, crop = sides(found["size"]), sides(found["crop_size"]) if found["do_center_crop"] else {}
    crop = crop if set(crop) == {"height", "width"} else {}
    short, share = size.get("shortest_edge"), getattr(own, "crop_pct", None)
    readings = []
    if short and share:  # ConvNeXt, PoolFormer: the shorter side is as much longer as the crop leaves of it
        cut = crop or square(short)
        readings.append({"size": {"shortest_edge": int(short / share)}, "do_center_crop": True, "crop_size": cut})
    if crop and size:
        readings.append({"size": size, "do_center_crop": True, "crop_size": crop})
        if short:  # LeViT
            grown = {"shortest_edge": int(short * 256 / 224)}
            readings.append({"size": grown, "do_center_crop": True, "crop_size": crop})
    whole = crop or size
    if set(whole) != {"height", "width"}:  # images of unlike shape can't be in one batch
        whole = square(short or size.get("longest_edge") or 224)
    readings.append({"size": whole})
    return [{**settings, **reading} for reading in readings]


def closest(readings, own):
    """That reading which makes of a probe image what the tower's own processor makes of it.

    Where none does, mean and deviation are those that its own black and white have.

    Returns:
        The settings, and None or what is to be said: that images are still not those that the tower was trained with.
    """
    try:
        expected, black, white = (made_by(own, image) for image in (probe(), plain(0), plain(255)))
    except Exception:  # one that needs more than images, or makes several of one
        problem = f"the {type(own).__name__} of %s makes no plain images: those that this tower gets here are resized "
        return readings[0], problem + "and normalised, and not those that it was trained with"
    black, white = black.amax((0, 2, 3)), white.amax((0, 2, 3))
    best = min(readings, key=lambda settings: distance(settings, expected))
    if distance(best, expected) > SAME and (white > black).all():
        std = (white - black).reciprocal()
        measured = {"image_mean": rounded(-black * std), "image_std": rounded(std)}
        kept = [{k: v for k, v in one.items() if k not in ("do_rescale", "rescale_factor")} for one in readings]
        best = min([best, *({**one, **measured} for one in kept)], key=lambda one: distance(one, expected))
    left = distance(best, expected)
    if left <= SAME:
        return best, None
    by = "their shape" if math.isinf(left) else f"{left:.2f} of their deviation"
    return best, (
        f"the {type(own).__name__} of %s does more than resize, crop and normalise: the images that this tower gets "
        f"here are not quite those that it was trained with (a probe image differs by {by})"
    )


def made_by(own, image):
    """What a tower's own processor makes of an image, (1, 3, H, W).

    Raises:
        ValueError: something else.
    """
    pixels = own(images=image, return_tensors="pt")["pixel_values"]
    if pixels.ndim != 4 or pixels.shape[:2] != (1, 3):
        raise ValueError(f"expected pixels of shape (1, 3, H, W), found {tuple(pixels.shape)}")
    return pixels


def distance(settings, expected):
    """How far ours of the probe is from the tower's own (1, 3, H, W), in its deviations; infinity for other shapes."""
    ours = DualVQAImageProcessor(**settings)(images=probe(), return_tensors="pt")["pixel_values"]
    if ours.shape != expected.shape:
        return math.inf
    return ((ours - expected).abs().mean() / expected.float().std()).item()


def probe():
    """A picture of coarse noise, wider than high: what is squashed, cut off or has another colour shows."""
    values = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((560, 420), Image.Resampling.BICUBIC)


def plain(value):
    return Image.new("RGB", (560, 560), (value,) * 3)


def overruled(settings, size, args):
    """The settings with the size, crop, interpolation, mean and deviation that were asked for.

    Args:
        settings: of a [`DualVQAImageProcessor`], or none.
        size: height and width, or both in one number; None for the tower's own.
        args: [`NewModelArguments`].
    """
    settings = dict(settings)
    if size:
        height, width = pair(size)
        crop = {"height": height, "width": width}
        if settings.get("do_center_crop"):  # what share of the image is cut off stays
            factor = min(height, width) / min(settings["crop_size"].values())
            settings["size"] = {name: round(side * factor) for name, side in settings["size"].items()}
            settings["crop_size"] = crop
        else:
            settings["size"] = crop
    height, width = made_size(DualVQAImageProcessor(**settings))
    if args.image_crop is False:
        settings = {name: value for name, value in settings.items() if name not in ("do_center_crop", "crop_size")}
        settings["size"] = {"height": height, "width": width}
    elif args.image_crop and not settings.get("do_center_crop"):
        settings |= {"size": {"shortest_edge": max(height, width)}, "do_center_crop": True}
        settings["crop_size"] = {"height": height, "width": width}
    if args.image_interpolation:
        settings["resample"] = PILImageResampling[args.image_interpolation.upper()]
    for name in ("image_mean", "image_std"):
        if getattr(args, name):
            settings[name] = getattr(args, name)
    return settings


def in_words(processor):
    """What an image processor does to an image, for the log."""
    height, width = made_size(processor)
    interpolation = PILImageResampling(processor.resample).name.lower()
    size = sides(processor.size)
    how = f"{width} x {height} pixels ({interpolation})"
    if processor.do_center_crop:
        side = (
            f"the shorter side {size['shortest_edge']}"
            if "shortest_edge" in size
            else f"{size['width']} x {size['height']}"
        )
        how = f"resized to {side} ({interpolation}), of that the centre, {width} x {height} pixels"
        how += worded(", what it cuts off is not seen (--image_crop false: all of it)")
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (processor.image_mean, processor.image_std))
    return f"{how}, mean {mean}, deviation {std}"


def sides(size):
    """A size as a dict of what it says."""
    if isinstance(size, (int, float)):
        return square(int(size))
    return {name: value for name, value in dict(size or {}).items() if value is not None}


def square(side):
    return {"height": side, "width": side}


def three(values):
    return [float(values)] * 3 if isinstance(values, (int, float)) else list(values)


def pair(size):
    """(height, width) of a size that may be one number."""
    return (size, size) if isinstance(size, int) else tuple(size)


def rounded(values):
    return [round(value, 6) for value in values.tolist()]

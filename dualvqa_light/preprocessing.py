"""An RGB image -> the pixels that the vision tower reads, as the manifest's `image` says."""

import math

import numpy as np
from PIL import Image

RESAMPLING = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}  # Pillow's numbers


def to_pixels(image, settings):
    """Resizes, cuts the centre out, rescales and normalises.

    Pillow's resizing is antialiased, and no value of it is further than 1/255 from torchvision's antialiased.

    Args:
        image: RGB PIL image.
        settings: `resize`, a dict of `height` and `width` or of `shortest_edge` alone, or None; `resample`, a key of
            `RESAMPLING`; `crop`, a dict of `height` and `width`, or None; `scale`, which 0..255 is multiplied by; then
            `mean` and `std` of the channels.

    Returns:
        float32 (1, 3, H, W).
    """
    if settings["resize"]:
        image = without_ends(image, settings["resize"], settings["crop"])
        size = resized_to(image.size, settings["resize"])
        image = image if size == image.size else image.resize(size, RESAMPLING[settings["resample"]])
    if settings["crop"]:
        image = centre(image, settings["crop"]["width"], settings["crop"]["height"])
    mean = np.asarray(settings["mean"], np.float32) / np.float32(settings["scale"])
    std = np.asarray(settings["std"], np.float32) / np.float32(settings["scale"])
    values = (np.asarray(image, np.float32) - mean) / std  # (H, W, 3)
    return np.ascontiguousarray(values.transpose(2, 0, 1))[None]


def without_ends(image, wanted, cut):
    """A very long image without most of what a crop cuts off: resized whole, a strip would take gigabytes."""
    if not cut or "shortest_edge" not in wanted:
        return image
    width, height = image.size
    short = min(width, height)
    length, seen = (height, cut["height"]) if height > width else (width, cut["width"])
    kept = max(short, 8 * math.ceil(seen * short / wanted["shortest_edge"]))  # with plenty on both sides
    kept += (length - kept) % 2  # the same on both sides
    if kept >= length:
        return image
    start = (length - kept) // 2
    return image.crop((0, start, width, start + kept) if height > width else (start, 0, start + kept, height))


def resized_to(size, wanted):
    """(width, height) that an image of (width, height) gets."""
    if "shortest_edge" not in wanted:
        return wanted["width"], wanted["height"]
    width, height = size
    edge, short, long = wanted["shortest_edge"], min(size), max(size)
    other = int(edge * long / short)
    return (edge, other) if width <= height else (other, edge)


def centre(image, width, height):
    """The centre of an image, with black around it where the image is smaller."""
    if image.width < width or image.height < height:
        larger = Image.new("RGB", (max(width, image.width), max(height, image.height)))
        larger.paste(image, ((larger.width - image.width) // 2, (larger.height - image.height) // 2))
        image = larger
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))

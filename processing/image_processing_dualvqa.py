"""Images of any kind -> normalised RGB tensors of one size."""

import math

import numpy as np
import torch
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, ChannelDimension, PILImageResampling

from .image_loading_dualvqa import CONTENT, TEXT, as_array, embedded, load_image, open_image, to_rgb
from .image_sources_dualvqa import PRESETS, ImageSources


class DualVQAImageProcessor(TorchvisionBackend):
    """Resizes, rescales and normalises images; takes paths, URLs, bytes, PIL images, arrays and tensors.

    Everything becomes RGB first, as a person would see it: see [`load_image`]. `sources` says what may be opened, an
    [`ImageSources`], a dict of its fields, "any" or "objects"; it is never saved.
    """

    resample = PILImageResampling.BILINEAR
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    size = {"height": 224, "width": 224}
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    _sources = PRESETS["any"]

    @property
    def sources(self):
        return self._sources

    @sources.setter
    def sources(self, value):
        self._sources = ImageSources.of(value)

    def to_dict(self):
        """As in transformers; nothing about where images may come from."""
        return {name: value for name, value in super().to_dict().items() if name != "_sources"}

    @classmethod
    def from_dict(cls, image_processor_dict, **kwargs):
        """As in transformers; a saved folder has no say in where images may come from."""
        fields = {k: v for k, v in image_processor_dict.items() if k not in ("sources", "_sources")}
        return super().from_dict(fields, **kwargs)

    def read(self, image):
        """The bytes of an image that is given as path, URL, base64 text, bytes or a dict with one of them, read once.

        Returns:
            None for PIL images, arrays, tensors and whatever is no image.

        Raises:
            ValueError: it may not be read, can't be, or is too large; see `sources`.
        """
        image = embedded(image) if isinstance(image, dict) else image
        return self.sources.read(image) if isinstance(image, (*TEXT, *CONTENT)) else None

    def load(self, image):
        """One image of any kind as an RGB PIL image; see [`load_image`]."""
        return load_image(image, self.sources)

    def fetch_images(self, images):
        """Opens paths, URLs and bytes, in lists too; image objects pass through.

        Raises:
            ValueError: something that is no image, or a path or URL where none can or may be read.
        """
        if isinstance(images, (list, tuple)):
            return [self.fetch_images(image) for image in images]
        return images if isinstance(images, (np.ndarray, torch.Tensor)) else self.load(images)

    def _prepare_images_structure(self, images, expected_ndims=3):
        """One image, a list, nested lists or arrays (U, H, W, C) -> a list of images.

        Raises:
            ValueError: no image among them, or see `fetch_images`.
        """
        if isinstance(images, (list, tuple)):
            found = [image for part in images for image in self._prepare_images_structure(part, expected_ndims)]
        else:
            images = self.fetch_images(images)
            several = isinstance(images, (np.ndarray, torch.Tensor)) and images.ndim == expected_ndims + 1
            found = list(images) if several else [images]
        if not found:
            raise ValueError("expected at least one image, found none")
        return found

    def process_image(self, image, input_data_format=None, do_rescale=None, **kwargs):
        """One image of any accepted kind -> (3, H, W) tensor."""
        scaled = getattr(image, "dtype", None) in SCALED and do_rescale is False
        if scaled:  # the caller says that these values are the model's already
            image, input_data_format = as_array(image, input_data_format), ChannelDimension.LAST
            if not np.isfinite(image).all():
                raise ValueError("expected finite pixels, found nan or infinity")
        elif input_data_format is not None or not is_plain(image):
            image = load_image(image, self.sources, input_data_format)
        return super().process_image(image, input_data_format=input_data_format, **kwargs)

    def _preprocess(self, images, **kwargs):
        """As in transformers; what is not finite then, by odd values of this call's options, goes no further."""
        if kwargs.get("do_resize") and kwargs.get("do_center_crop"):
            images = [without_ends(image, kwargs["size"], kwargs["crop_size"]) for image in images]
        batch = super()._preprocess(images, **kwargs)
        for pixels in batch["pixel_values"]:
            if not np.isfinite(np.asarray(pixels.cpu() if isinstance(pixels, torch.Tensor) else pixels)).all():
                raise ValueError(
                    "expected finite pixels, found nan or infinity after normalisation: look at rescale_factor, "
                    "image_mean and image_std"
                )
        return batch


def without_ends(image, size, cut):
    """A very long image (3, H, W) without most of what a crop cuts off: resized whole, a strip would take gigabytes."""
    short = dict(size).get("shortest_edge")
    if not short:
        return image
    *_, height, width = image.shape
    length, seen = max((height, cut["height"]), (width, cut["width"]))
    across = min(height, width)
    kept = max(across, 8 * math.ceil(seen * across / short))  # pixels: the crop, with plenty on both sides
    kept += (length - kept) % 2  # the same on both sides
    return image if kept >= length else image.narrow(-2 if height > width else -1, (length - kept) // 2, kept)


def made_size(image_processor):
    """(height, width) of the images that an image processor makes; None where they keep their shape."""
    crops = getattr(image_processor, "do_center_crop", None)
    size = dict((image_processor.crop_size if crops else image_processor.size) or {})
    return (size["height"], size["width"]) if size.get("height") and size.get("width") else None


def crop_of(image_processor):
    """`size` and `crop_size` of an image processor that cuts the centre out of an image; None of another."""
    if not getattr(image_processor, "do_center_crop", None):
        return None
    return {"size": dict(image_processor.size), "crop_size": dict(image_processor.crop_size)}


def seen_part(crop, width, height):
    """The part of an image of so many pixels that a `crop_of` leaves: (left, top, right, bottom) in its pixels."""
    if crop is None:
        return 0.0, 0.0, float(width), float(height)
    size, cut = crop["size"], crop["crop_size"]
    if size.get("shortest_edge"):
        across = down = size["shortest_edge"] / min(width, height)
    else:
        across, down = size["width"] / width, size["height"] / height
    seen_width, seen_height = min(width, cut["width"] / across), min(height, cut["height"] / down)
    left, top = (width - seen_width) / 2, (height - seen_height) / 2
    return left, top, left + seen_width, top + seen_height


SCALED = (np.float16, np.float32, np.float64, torch.float16, torch.bfloat16, torch.float32, torch.float64)


def is_plain(image):
    """Whether this is an RGB tensor as a collator makes it, uint8 (3, H, W), which needs no conversion."""
    plain = isinstance(image, torch.Tensor) and image.dtype == torch.uint8 and image.ndim == 3 and image.numel()
    return plain and image.shape[0] == 3 and image.shape[2] > 4


DualVQAImageProcessor.register_for_auto_class()

__all__ = ["DualVQAImageProcessor", "load_image", "open_image", "to_rgb"]

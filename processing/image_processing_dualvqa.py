"""Images of any kind -> normalised RGB tensors of one size."""

import base64
import io
import os

import numpy as np
import torch
from huggingface_hub.utils import httpx
from PIL import Image, ImageOps
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, PILImageResampling

URL_TIMEOUT = 10  # seconds that a server may be silent
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


class DualVQAImageProcessor(TorchvisionBackend):
    """Resizes, rescales and normalises images; takes paths, URLs, PIL images, arrays and tensors.

    Everything becomes RGB first, as a person would see it: see [`to_rgb`].
    """

    resample = PILImageResampling.BILINEAR
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    size = {"height": 224, "width": 224}
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True

    def fetch_images(self, images):
        """Opens paths and URLs; other images pass through.

        Raises:
            ValueError: something that is no image, or a path or URL where none can be read.
        """
        if isinstance(images, (list, tuple)):
            return [self.fetch_images(image) for image in images]
        if isinstance(images, (str, os.PathLike)):
            return open_image(os.fspath(images))
        if not isinstance(images, (Image.Image, np.ndarray, torch.Tensor)):
            raise ValueError(f"expected a path, a URL, a PIL image, an array or a tensor, found {images!r:.200}")
        return images

    def process_image(self, image, **kwargs):
        """One image of any accepted kind -> (3, H, W) tensor."""
        if isinstance(image, Image.Image):
            image = to_rgb(image)
        elif isinstance(image, np.ndarray) and image.dtype.itemsize > 1 and image.dtype.kind in "iu":
            image = stretch(image)
        elif isinstance(image, torch.Tensor) and not image.is_floating_point() and image.dtype != torch.uint8:
            image = torch.from_numpy(stretch(image.cpu().numpy()))
        return super().process_image(image, **kwargs)


def open_image(source):
    """The PIL image at a path or URL.

    Raises:
        ValueError: there is no readable image; the message names the path.
    """
    try:
        image = Image.open(find_bytes(source))
        image.load()
        return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, httpx.HTTPError, httpx.InvalidURL) as error:
        raise ValueError(f"expected a readable image at {source[:200]}: {error or type(error).__name__}") from error


def find_bytes(source):
    """What PIL opens: a path as it is, the content of a URL as a file."""
    if source.startswith(("http://", "https://")):
        response = httpx.get(source, timeout=URL_TIMEOUT, follow_redirects=True)
        return io.BytesIO(response.raise_for_status().content)
    if source.startswith("data:"):
        return io.BytesIO(base64.b64decode(source.partition(",")[2]))
    return source


def to_rgb(image):
    """A PIL image of any mode -> RGB, upright.

    The first frame of an animation; turned by its EXIF orientation; grey values of more than 8 bits stretched from
    their own darkest to their own brightest; transparency over white.
    """
    if getattr(image, "n_frames", 1) > 1:
        image.seek(0)
    image = ImageOps.exif_transpose(image)
    if image.mode in DEEP_MODES:
        return Image.fromarray(stretch(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def stretch(values):
    """Array of any number type -> uint8 of the same shape, its smallest value to 0 and its largest to 255."""
    values = np.nan_to_num(values.astype(np.float64))
    low, high = values.min(), values.max()
    return np.round((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)


DualVQAImageProcessor.register_for_auto_class()

__all__ = ["DualVQAImageProcessor"]

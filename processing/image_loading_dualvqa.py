"""An image of any kind -> RGB, as a person would see it. Everything that opens an image goes through here.

It works without torch too, for answering from exported files.
"""

import contextlib
import importlib
import io
import logging
import math
import os
import sys
from collections.abc import Mapping

import numpy as np
from PIL import Image, UnidentifiedImageError

from .dicom_dualvqa import is_dicom, read_dicom
from .image_sources_dualvqa import PRESETS, name_of

logger = logging.getLogger(__name__)

TEXT = (str, os.PathLike)
CONTENT = (bytes, bytearray, memoryview)
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
# EPS starts Ghostscript; the others hold an image whose size their own header doesn't give.
REFUSED_FORMATS = ("EPS", "ICO", "ICNS", "BLP")
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
SAID = set()  # what is said once
CHANNELS = (1, 3, 4)  # grey, RGB, RGB with opacity
ROUNDING = 1e-3  # how far floating point numbers may leave [0, 1], and floats in [0, 255] times 255 of it


def load_image(image, sources=PRESETS["any"], layout=None):
    """One image of any kind as an RGB PIL image, upright.

    Args:
        image: path, URL, data URI, base64 text, bytes, a dict with `bytes` or `path` (datasets.Image), PIL image, array
            or tensor. Arrays and tensors are (H, W), (H, W, C) or (C, H, W) with C 1, 3 or 4; see [`to_uint8`] for
            their values.
        sources: [`ImageSources`], what may be opened and how large it may be.
        layout: "channels_first" or "channels_last", where an array's shape leaves that open.

    Raises:
        ValueError: anything else, or an image that can't be read; the message says what was found.
    """
    if isinstance(image, Mapping):
        image = embedded(image)
    if isinstance(image, (*TEXT, *CONTENT)):
        image, name = open_image(image, sources), name_of(image)
    elif isinstance(image, np.ndarray) or is_tensor(image):
        values = as_array(image, layout)
        check_size(values.shape[1::-1], sources, "the array")
        values = to_uint8(values)
        image, name = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values), "an array"
    elif isinstance(image, Image.Image):
        check_size(image.size, sources, "the PIL image")
        name = f"a PIL image ({type(image).__name__}, mode {image.mode})"
    else:
        raise ValueError(f"expected a path, a URL, bytes, a PIL image, an array or a tensor, found {in_words(image)}")
    with naming(name):  # one that was opened lazily is decoded only now
        return to_rgb(image)


def is_image_object(image):
    """Whether this is an image in memory: a PIL image, an array or a tensor."""
    return isinstance(image, (Image.Image, np.ndarray)) or is_tensor(image)


def is_tensor(image):
    """Whether this is a tensor of torch, which nobody has who hasn't imported it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def in_words(found):
    """Something that is no image, without all that it holds."""
    if isinstance(found, (list, tuple)):
        return f"a {type(found).__name__} of {len(found)}"
    return repr(found) if isinstance(found, (int, float, type(None))) else f"a {type(found).__name__}"


@contextlib.contextmanager
def naming(name):
    """Whatever goes wrong within is a ValueError that names the image. Pillow raises errors of many kinds."""
    try:
        yield
    except Exception as error:
        reason = f"{error}"[:300] or type(error).__name__
        if isinstance(error, UnidentifiedImageError):  # its text is about an object in memory
            reason = "no image, or of a format that is not read"
        place = "in" if name.endswith(" bytes") else "at"
        raise ValueError(f"expected a readable image {place} {name}: {reason}") from error


def embedded(image):
    """What a datasets.Image that is not decoded holds: bytes, or else a path."""
    if image.get("bytes") is not None:
        return image["bytes"]
    if image.get("path"):
        return image["path"]
    raise ValueError(f"expected an image as a dict with bytes or a path, found the keys {sorted(map(str, image))}")


def open_image(source, sources=PRESETS["any"]):
    """The decoded PIL image, its first frame, of a path, URL, data URI, base64 text or bytes.

    Raises:
        ValueError: there is no readable image, or one that is larger than allowed; the message names it.
    """
    content, name = sources.read(source), name_of(source)
    with naming(name):
        if is_dicom(content):
            image, frames = read_dicom(content, lambda size: check_size(size, sources, "it"))
            say_frames(name, "DICOM", frames > 1)
            return image
        if is_heic(content):
            learn_heic()
        image = recognise(content)
        check_size(image.size, sources, "it")
        if "frames" not in SAID:
            say_frames(name, image.format, has_more(image, content))
        image.load()
        return image


def recognise(content):
    """The PIL image of a file's bytes, not decoded yet.

    Raises:
        PIL.UnidentifiedImageError: no image, or of a format that is not read.
    """
    # Most are of the five formats that Pillow reads without forty more modules.
    for learn in (Image.preinit, Image.init):
        learn()
        formats = [kind for kind in Image.OPEN if kind not in REFUSED_FORMATS]
        try:
            return Image.open(io.BytesIO(content), formats=formats)
        except UnidentifiedImageError:
            if learn is Image.init:
                raise


def has_more(image, content):
    """Whether an image has a second frame. They are not counted: a file may have millions."""
    if image.format != "TIFF":
        return getattr(image, "is_animated", False)
    with contextlib.suppress(Exception), Image.open(io.BytesIO(content), formats=["TIFF"]) as other:
        other.seek(1)  # Pillow would count to know whether there are several
        return True
    return False


def say_frames(name, kind, several):
    """Says once, at the first file with several frames, which of them is taken."""
    if several and "frames" not in SAID:
        SAID.add("frames")
        logger.warning(
            f"{name} ({kind}) has several frames or pages: of such files the first is taken, and this is said once. "
            f"Write others that are asked about into files of their own"
        )


def is_heic(content):
    """Whether these bytes are a HEIC image, which Pillow alone can't read; its near relation AVIF it can."""
    brands = [content[8:12], *(content[place : place + 4] for place in range(16, 48, 4))]
    return content[4:8] == b"ftyp" and content[8:12] != b"avif" and any(brand in HEIC_BRANDS for brand in brands)


def learn_heic():
    """Has Pillow read HEIC images.

    Raises:
        ValueError: pillow-heif is not installed.
    """
    if "HEIF" in Image.OPEN:
        return
    try:
        # Not an import statement: transformers would demand it of everyone who loads a saved folder's code.
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError as error:
        raise ValueError(
            f"it is a HEIC image, as phones make, which needs pillow-heif: pip install pillow-heif, the extra 'heic', "
            f"or write it anew as JPEG or PNG ({error})"
        ) from error


def check_size(size, sources, what):
    """
    Raises:
        ValueError: no pixel, or more than `sources.max_pixels`.
    """
    width, height = size
    if not width or not height:
        raise ValueError(f"expected an image, found {what} of {width} x {height} pixels")
    if width * height > sources.max_pixels:
        raise ValueError(
            f"{what} has {width} x {height} pixels, and the limit max_pixels is {sources.max_pixels:,}; make it "
            f"smaller, or allow more"
        )


def to_rgb(image):
    """A PIL image of any mode -> RGB, upright.

    The first frame of an animation (for another, give `image.copy()` of it); turned by its EXIF orientation; grey
    values of more than 8 bits that leave 0..255 stretched from their own darkest to their own brightest; transparency
    over white.

    Raises:
        ValueError: nan or infinity among the values.
    """
    if image.tell():
        image.seek(0)
    image = upright(image)
    if image.mode in DEEP_MODES:
        values = np.asarray(image)
        grey = to_uint8(values, measured=True)
        if isinstance(image.info.get("transparency"), int):  # the one grey value that lets the background through
            grey = np.where(values == image.info["transparency"], np.uint8(255), grey)
        return bare(Image.fromarray(grey).convert("RGB"))
    if image.mode == "La":  # which Pillow converts to nothing else
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return bare(Image.alpha_composite(white, image).convert("RGB"))
    return bare(image.convert("RGB"))


def bare(image):
    """A new image without what its file said beside the pixels: read once more, it would be turned once more."""
    image.info = {}
    return image


def upright(image):
    """The image turned as its EXIF orientation says; as it is stored where that can't be read.

    Pillow's `exif_transpose` also writes the other tags anew, and fails at those that cameras and editors got wrong.
    """
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # Pillow raises many kinds
        turn = None
    image.load()
    return image if turn is None else image.transpose(turn)


def as_array(image, layout=None):
    """An array or tensor as an array (H, W, C) of the same values.

    Raises:
        ValueError: a shape that is no image's or leaves open where the channels are, or values that are no numbers.
    """
    found = f"{'a tensor' if is_tensor(image) else 'an array'} of shape {tuple(image.shape)}"
    if is_tensor(image):
        try:
            image = image.detach().cpu()
            image = (image.float() if str(image.dtype) == "torch.bfloat16" else image).numpy()
        except (RuntimeError, TypeError) as error:  # sparse, on no device, quantised
            raise ValueError(f"expected a plain tensor, found {found}: {error}"[:300]) from error
    if np.ma.is_masked(image):
        raise ValueError(
            f"expected an image whose values are all known, found {found} with masked ones; fill them first"
        )
    image = np.asarray(image)  # of a subclass such as numpy.matrix the values alone
    if image.dtype.kind not in "buif":
        raise ValueError(f"expected an image as an array of numbers, found {found} and type {image.dtype}")
    if image.ndim == 2:
        image = image[..., None]
    elif image.ndim != 3:
        raise ValueError(f"expected one image of shape (H, W), (H, W, C) or (C, H, W), found {found}")
    elif channels_first(image.shape, layout, found):
        image = image.transpose(1, 2, 0)
    if not image.size:
        raise ValueError(f"expected an image, found {found}, which has no pixels")
    return image  # (H, W, C)


def channels_first(shape, layout, found):
    """Whether the first of three axes is that of the channels."""
    layout = getattr(layout, "value", layout)
    places = {"channels_first": shape[0], "channels_last": shape[2]}
    if layout not in (None, *places):
        raise ValueError(f"expected input_data_format to be one of {', '.join(places)}; found {layout!r}")
    fitting = [name for name, count in places.items() if count in CHANNELS and layout in (None, name)]
    if not fitting:
        raise ValueError(f"expected an image with 1, 3 or 4 channels, first or last; found {found}")
    if len(fitting) > 1:
        raise ValueError(
            f"expected an image whose shape shows its channels, found {found}; say which axis they are with "
            f"input_data_format='channels_first' or 'channels_last', or give a PIL image"
        )
    return fitting == ["channels_first"]


def to_uint8(values, measured=False):
    """The values of an image, an array of any number type and shape, as uint8.

    | values | become |
    |---|---|
    | booleans | 0 and 255 |
    | whole numbers of any width within 0..255 | themselves |
    | other whole numbers: 12 or 16 bits, Hounsfield units | stretched, the smallest to 0 and the largest to 255 |
    | floating point numbers within [0, 1] | 255 times themselves, rounded |
    | floating point numbers within [0, 255] | themselves, rounded |

    Args:
        measured: for images of files, whose numbers are whatever was measured: other floating point numbers are
            stretched as well, in place of being refused.

    Raises:
        ValueError: nan or infinity, floating point numbers of another range, or numbers to be stretched beside opacity.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    low, high = values.min().item(), values.max().item()  # Python's numbers: those of the array may overflow
    if values.dtype.kind in "ui":
        if 0 <= low and high <= 255:
            return values.astype(np.uint8)
        if values.shape[2:] == (4,):  # colours and opacity would be stretched by one another's range
            raise ValueError(
                f"expected whole numbers within 0..255 where an image has opacity, found {low} to {high}; give it "
                f"without opacity, or as uint8"
            )
        return stretch(values, low, high)
    if not math.isfinite(low) or not math.isfinite(high):  # nan is both the smallest and the largest
        count = int(values.size - np.isfinite(values).sum())
        raise ValueError(f"expected finite pixels, found nan or infinity in {count} of {values.size} values")
    if -ROUNDING <= low and high <= 1 + ROUNDING:
        return np.round(values.clip(0, 1) * np.float32(255)).astype(np.uint8)
    if -255 * ROUNDING <= low and high <= 255 * (1 + ROUNDING) and (high > 2 or (values == np.round(values)).all()):
        return np.round(values.clip(0, 255)).astype(np.uint8)
    if measured:
        return stretch(values, low, high)
    raise ValueError(
        f"expected floating point pixels within [0, 1] or [0, 255], found values from {low:.4g} to {high:.4g}; give "
        f"them before normalisation, or as uint8"
    )


def stretch(values, low, high):
    """Array of any number type -> uint8 of the same shape, from `low` to 0 and from `high` to 255."""
    values = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    values -= low
    values *= 255 / (high - low) if high > low else 0
    return np.round(values, out=values).astype(np.uint8)

"""DICOM files -> the picture that a viewer would show: modality values, the file's own window, dark on black.

Of the file only what describes pixels is read (group 0028 and the pixel data), so that nothing of a patient can go on
from here. pydicom reads it, an extra that nobody else needs.
"""

import importlib
import warnings
from io import BytesIO

import numpy as np
from PIL import Image

MAGIC = slice(128, 132)  # after a preamble that may hold anything (DICOM PS3.10, section 7.1)
DEFLATED = b"1.2.840.10008.1.2.1.99"  # a whole file in zlib: its size is known only when it is in memory
HEAD = 4096  # bytes that have the transfer syntax in them
# Pixel data as integers and as floating point, and of enhanced files what all frames and each of them have.
FURTHER = (0x7FE00010, 0x7FE00008, 0x7FE00009, 0x52009229, 0x52009230)
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
FAR = 1e30  # further from any window than a pixel can be


def is_dicom(content):
    """Whether these bytes are a DICOM file."""
    return content[MAGIC] == b"DICM"


def read_dicom(content, check_size):
    """The first frame of a DICOM file.

    Grey values become those of the modality (rescale, or its table), then what the first VOI table or window of the
    file shows of them (DICOM PS3.3, C.11.1 and C.11.2); without either the smallest is black and the largest white.
    MONOCHROME1 is turned round. Colours are RGB.

    Args:
        content: bytes.
        check_size: called with (width, height) before anything is decoded.

    Returns:
        A PIL image of mode L or RGB, and the number of frames.

    Raises:
        ValueError: pydicom is not installed, or a decoder of the file's compression; or there are no pixels.
    """
    pydicom = find_pydicom()
    if DEFLATED in content[:HEAD]:
        raise ValueError("it is a deflated DICOM file, and those are not read; write it anew, uncompressed")
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("ignore")  # pydicom's quote values of the file
        data = pydicom.dcmread(BytesIO(content), specific_tags=[*pydicom.pixels.utils._GROUP_0028, *FURTHER])
        if not any(name in data for name in PIXELS) or not (data.get("Rows") and data.get("Columns")):
            raise ValueError("it is a DICOM file without pixel data (a report, a plan, a directory?): take the images")
        check_size((data.Columns, data.Rows))
        values = decode(pydicom, data)
        take_first_frames_settings(data)
        return Image.fromarray(shown(pydicom, data, values)), int(data.get("NumberOfFrames") or 1)


def find_pydicom():
    try:
        # Not an import statement: transformers would demand it of everyone who loads a saved folder's code.
        pydicom = importlib.import_module("pydicom")
        importlib.import_module("pydicom.pixels")
        return pydicom
    except ImportError as error:
        raise ValueError(
            f"it is a DICOM file, which needs pydicom 3 or newer: pip install pydicom, the extra 'dicom' ({error})"
        ) from error


def decode(pydicom, data):
    """The stored values of the first frame, (H, W) or (H, W, 3)."""
    try:
        return pydicom.pixels.pixel_array(data, index=0)
    except (RuntimeError, NotImplementedError) as error:  # no decoder, or those that there are have failed
        kind = data.file_meta.TransferSyntaxUID.name
        found = "no decoder is installed" if "missing dependencies" in str(error) else "no installed decoder is enough"
        raise ValueError(
            f"its pixels are compressed as {kind}, for which {found}: pip install pylibjpeg pylibjpeg-libjpeg "
            f"pylibjpeg-openjpeg (or python-gdcm), or write the file anew, uncompressed"
        ) from error


def take_first_frames_settings(data):
    """Of an enhanced file: rescale and window of the first frame, where those of other files are."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for frame in list(data.get(groups) or ())[:1]:
            for settings in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                for found in list(frame.get(settings) or ())[:1]:
                    data.update(found)


def shown(pydicom, data, values):
    """Stored values -> uint8, (H, W) or (H, W, 3)."""
    kind = data.get("PhotometricInterpretation", "MONOCHROME2")
    if kind == "PALETTE COLOR":
        values = pydicom.pixels.apply_color_lut(values, data)
        return scaled(values, 0, 255 if values.dtype == np.uint8 else 65535)
    if kind not in MONOCHROME:
        return scaled(values, 0, 2**data.BitsStored - 1)
    grey, low, high = windowed(pydicom, data, values)
    return 255 - scaled(grey, low, high) if kind == "MONOCHROME1" else scaled(grey, low, high)


def windowed(pydicom, data, values):
    """The values (H, W) that a viewer shows, and which of them are black and white."""
    modality = pydicom.pixels.apply_modality_lut(values, data)
    if data.get("VOILUTSequence"):
        bits = int(data.VOILUTSequence[0].LUTDescriptor[2])
        return pydicom.pixels.apply_voi(modality, data), 0, 2**bits - 1
    if data.get("WindowWidth") and data.get("WindowCenter") is not None:
        try:
            low, high = pydicom.pixels.apply_windowing(np.array([-FAR, FAR]), data)
            return pydicom.pixels.apply_windowing(modality, data), low, high
        except ValueError:  # a width that no window has
            pass
    known = modality
    if "PixelPaddingValue" in data:  # what is around the picture, often far below all that is in it
        known = modality[values != data.PixelPaddingValue]
    known = known if known.size else modality
    return modality, float(known.min()), float(known.max())


def scaled(values, low, high):
    """From `low` to 0 and from `high` to 255, uint8."""
    share = (values.astype(np.float64) - low) / (high - low) if high > low else np.zeros(values.shape)
    return np.round(share.clip(0, 1) * 255).astype(np.uint8)

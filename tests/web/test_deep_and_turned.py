"""Grey PNG of 16 bits and turned WebP pictures are read by the page, under node, as by Python."""

import base64
import io
import shutil
import struct
import zlib

import numpy as np
import pytest
from page_functions import called, given
from picture_files import ORIENTATION, deep, photo
from PIL import Image, PngImagePlugin

from dualvqa_light.image_loading_dualvqa import load_image

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None, reason="the page's functions are run by node: not installed"
)
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def encoded(image, kind="PNG", **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def base64_of(content):
    return base64.b64encode(content).decode()


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def interlaced(values):
    """A PNG of Adam7, which Pillow doesn't write; its lines have the filters 0 and 2 in turn."""
    data = b""
    for left, top, right, down in PASSES:
        part = values[top::down, left::right].astype(">u2")
        if part.size:
            lines = part.view(np.uint8).reshape(len(part), -1)
            for row, line in enumerate(lines):
                data += bytes([2]) + (line - lines[row - 1]).tobytes() if row % 2 else bytes([0]) + line.tobytes()
    height, width = values.shape
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def exif(turn, order="<"):
    found = Image.Exif()
    found.endian = order
    found[ORIENTATION] = turn
    return found


def test_deep_grey_pictures_are_those_of_python_to_the_last_bit():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 65536, (31, 23), dtype=np.uint16)
    hole = PngImagePlugin.PngInfo()
    hole.add(b"tRNS", struct.pack(">H", int(noise[3, 4])))
    files = [
        encoded(deep(50, 70)),
        encoded(Image.fromarray(noise)),
        encoded(Image.fromarray(noise // 300)),  # within 0..255: as they are
        encoded(Image.fromarray(np.full((3, 2), 5000, np.uint16))),
        encoded(Image.fromarray(noise[:1, :1])),
        encoded(Image.fromarray(noise), pnginfo=hole),
        *(encoded(deep(20, 30), exif=exif(turn)) for turn in (3, 6, 8)),
        interlaced(noise),
        interlaced(noise[:3, :2]),
    ]
    for content, found in zip(files, called(*(["deepGrey", base64_of(content)] for content in files)), strict=True):
        expected = np.asarray(load_image(content).convert("RGBA"))
        data = np.frombuffer(base64.b64decode(found["data"]), np.uint8)
        np.testing.assert_array_equal(data.reshape(found["height"], found["width"], 4), expected)


def test_others_are_left_to_the_browser_and_damaged_ones_are_told():
    whole = encoded(deep(50, 70))
    bomb = whole[:16] + struct.pack(">II", 20_000, 20_000) + whole[24:]
    files = [encoded(photo(9, 9)), encoded(photo(9, 9), "JPEG"), b"", whole[:200], whole[:40], bomb]
    found = called(*(["deepGrey", base64_of(content)] for content in files))
    assert found[:3] == [None] * 3
    assert [str(one) for one in found[3:]] == ["That PNG is damaged."] * 2 + ["20000 x 20000 pixels"]


def test_webp_pictures_are_turned_as_python_turns_them():
    calls, expected = [], []
    for turn in range(1, 9):
        for order in "<>":
            content = encoded(photo(90, 60, turn), "WEBP", lossless=True, exif=exif(turn, order))
            calls.append(["turnedByWebp", given(photo(90, 60, turn)), base64_of(content)])
            expected.append((turn, np.asarray(load_image(content).convert("RGBA"))))
    plain = encoded(photo(90, 60), "WEBP", lossless=True)
    calls += [["turnedByWebp", given(photo(90, 60)), base64_of(content)] for content in (plain, plain[:20], b"")]
    expected += [(None, np.asarray(photo(90, 60).convert("RGBA")))] * 3
    for found, (turn, pixels) in zip(called(*calls), expected, strict=True):
        assert found["orientation"] == turn
        data = np.frombuffer(base64.b64decode(found["data"]), np.uint8)
        np.testing.assert_array_equal(data.reshape(found["height"], found["width"], 4), pixels)

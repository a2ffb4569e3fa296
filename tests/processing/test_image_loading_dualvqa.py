import io
import random
import struct
import sys
import warnings

import numpy as np
import pillow_heif
import pytest
import torch
from PIL import Image

from processing import DualVQAImageProcessor
from processing.image_loading_dualvqa import load_image, open_image, to_rgb
from processing.image_sources_dualvqa import ImageSources

RNG = np.random.default_rng(0)
COLOURS = (RNG.random((20, 30, 3)) * 120 + 60).astype(np.uint8)
GREY = COLOURS[..., 0]


def loaded(image, **kwargs):
    found = load_image(image, **kwargs)
    assert found.mode == "RGB"
    return np.asarray(found)


def first(array):
    """(H, W, C) as a tensor (C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)


@pytest.mark.parametrize(
    "array",
    [
        COLOURS,
        *(
            COLOURS.astype(kind)
            for kind in ("int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">u2")[1:]
        ),
        *(COLOURS.astype(kind) for kind in ("float16", "float32", "float64", "longdouble")),
        *((COLOURS / 255).astype(kind) for kind in ("float32", "float64")),
        (COLOURS + RNG.uniform(-0.4, 0.4, COLOURS.shape)).astype("float32"),
        COLOURS.transpose(2, 0, 1),
        np.concatenate([COLOURS, np.full_like(GREY, 255)[..., None]], axis=2),
        first(COLOURS),
        first(COLOURS).long(),
        first(COLOURS).float().requires_grad_(),
        first(COLOURS / 255).float(),
        first(COLOURS / 255).double(),
        first(COLOURS).permute(1, 2, 0),
    ],
)
def test_the_same_image_has_the_same_pixels_whatever_the_type_of_its_array(array):
    assert np.array_equal(loaded(array), COLOURS)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_has_the_same_pixels_as_far_as_it_goes(kind):
    found = loaded(first(COLOURS / 255).to(getattr(torch, kind)))
    assert np.abs(found.astype(int) - COLOURS).max() <= 1


def test_grey_arrays_of_every_shape():
    expected = np.repeat(GREY[..., None], 3, axis=2)
    for array in (GREY, GREY[..., None], GREY[None], torch.from_numpy(GREY), GREY / 255, np.asmatrix(GREY)):
        assert np.array_equal(loaded(array), expected)


def test_booleans_are_black_and_white():
    mask = COLOURS > 120
    assert np.array_equal(loaded(mask), mask * np.uint8(255))
    assert np.array_equal(loaded(torch.from_numpy(GREY > 120))[..., 0], (GREY > 120) * np.uint8(255))


def test_numbers_a_hair_outside_of_0_to_1_are_rounding():
    array = np.array([[0.0, 1.0], [0.25, 1.0]]).repeat(8, 0)
    assert np.array_equal(loaded(array + 1e-7), loaded(array)) and np.array_equal(loaded(array - 1e-7), loaded(array))
    assert loaded(array).max() == 255


def test_whole_numbers_of_more_than_8_bits_are_stretched():
    for array in (COLOURS.astype(np.uint16) * 16, COLOURS.astype(np.int16) - 1024, COLOURS.astype(np.int64) << 40):
        found = loaded(array)
        assert found.min() == 0 and found.max() == 255
        share = (COLOURS.astype(float) - COLOURS.min()) / (int(COLOURS.max()) - int(COLOURS.min()))
        assert np.abs(found - 255 * share).max() <= 0.51
    assert not loaded(np.full((8, 8), 4096, np.uint16)).any()


def test_transparent_arrays_lie_over_white():
    array = np.zeros((8, 8, 4), np.uint8)
    array[:4, :, 3] = 255
    for found in (loaded(array), loaded(first(array)), loaded(array / 255)):
        assert not found[:4].any() and (found[4:] == 255).all()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_refused(odd):
    array = COLOURS.astype(np.float32)
    array[0, 0, 0] = odd
    grey = array[..., 0].copy()
    tiff = io.BytesIO()
    Image.fromarray(grey).save(tiff, "TIFF")
    for image in (array, first(array), grey, Image.fromarray(grey), tiff.getvalue()):
        with pytest.raises(ValueError, match="finite pixels, found nan or infinity in 1 of "):
            load_image(image)


@pytest.mark.parametrize(
    "image, message",
    [
        (np.full((8, 8, 3), 1e30), r"within \[0, 1\] or \[0, 255\], found values from 1e\+30 to 1e\+30"),
        (RNG.normal(size=(8, 8, 3)), "found values from -.* give them before normalisation"),
        (RNG.uniform(0, 1.5, (8, 8, 3)), r"found values from 0\..* to 1\.4"),
        (RNG.uniform(-1, 1, (8, 8, 3)), "found values from -0.9"),
        (np.zeros((3, 20, 3)), r"shape \(3, 20, 3\); say which axis .*input_data_format"),
        (np.zeros((8, 8, 5)), r"1, 3 or 4 channels, first or last; found an array of shape \(8, 8, 5\)"),
        (np.zeros((8, 8, 2)), "1, 3 or 4 channels"),
        (np.zeros((2, 3, 8, 8)), r"expected one image of shape .* found an array of shape \(2, 3, 8, 8\)"),
        (torch.zeros(8), r"expected one image of shape .* found a tensor of shape \(8,\)"),
        (np.zeros((0, 8, 3)), "has no pixels"),
        (np.zeros((8, 0)), "has no pixels"),
        (Image.new("RGB", (0, 5)), "0 x 5 pixels"),
        (np.zeros((8, 8, 3), complex), "array of numbers, found .* complex128"),
        (np.full((8, 8), "red"), "array of numbers"),
        (np.full((8, 8), None), "array of numbers, found .* object"),
        (np.ma.masked_greater(COLOURS, 120), "masked ones; fill them first"),
        (torch.zeros(3, 8, 8).to_sparse(), "plain tensor"),
        (torch.zeros(3, 8, 8, device="meta"), "plain tensor"),
        ([COLOURS, COLOURS], "expected one image, found a list of 2|found a list of 2"),
        ({"bytes": None, "path": None}, "dict with bytes or a path"),
        ({"pixels": COLOURS}, r"dict with bytes or a path, found the keys \['pixels'\]"),
        (42, "found 42"),
        (object(), "found a object"),
        (b"", "in 0 bytes: no image"),
        (b"GIF89a", "in 6 bytes"),
        ("", "the path is empty"),
    ],
)
def test_what_is_no_image_is_named_in_few_words(image, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_image(image)
    assert len(str(caught.value)) < 300


def test_the_layout_may_be_told_where_the_shape_leaves_it_open():
    array = RNG.integers(0, 256, (3, 20, 3), dtype=np.uint8)
    assert np.array_equal(loaded(array, layout="channels_last"), array)
    assert np.array_equal(loaded(array, layout="channels_first"), array.transpose(1, 2, 0))
    process = DualVQAImageProcessor(size={"height": 20, "width": 3}, do_normalize=False, do_rescale=False)
    found = process(array, input_data_format="channels_first", return_tensors="pt")["pixel_values"][0]
    assert np.array_equal(found, array)
    with pytest.raises(ValueError, match="expected input_data_format to be one of"):
        loaded(array, layout="sideways")


def test_the_deep_modes_of_pillow_have_the_pixels_of_their_arrays():
    for image in (Image.fromarray(GREY).convert("I"), Image.fromarray(GREY).convert("F"), Image.fromarray(GREY)):
        assert np.array_equal(loaded(image)[..., 0], GREY)
    measured = loaded(Image.fromarray(GREY.astype(np.float32) * 20 - 1000))  # what a file measures has any range
    assert measured.min() == 0 and measured.max() == 255


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]
)
def test_every_mode_of_pillow_becomes_rgb(mode):
    assert loaded(Image.new(mode, (6, 4))).shape == (4, 6, 3)


def exif(*entries, behind=b""):
    block = b"II*\x00" + struct.pack("<IH", 8, len(entries))
    for tag, kind, count, value in entries:
        block += struct.pack("<HHI", tag, kind, count) + value
    return b"Exif\x00\x00" + block + struct.pack("<I", 0) + behind


TURNED = (0x0112, 3, 1, struct.pack("<HH", 6, 0))


@pytest.mark.parametrize(
    "block, size",
    [
        (exif(TURNED), (20, 30)),
        (exif(TURNED, (0x011A, 2, 4, b"72\x00\x00")), (20, 30)),  # resolution as text
        (exif(TURNED, (0x0103, 8, 1, struct.pack("<hh", -1, 0))), (20, 30)),  # a negative number where none may be
        (exif(TURNED, (0x9204, 10, 1, struct.pack("<I", 38)), behind=struct.pack("<ii", -2, 0)), (20, 30)),
        (exif(TURNED, (0x0101, 9, 1, struct.pack("<i", -5))), (20, 30)),
        (exif((0x0112, 2, 4, b"top\x00")), (30, 20)),  # an orientation that is none: as it is stored
        (exif((0x0112, 3, 1, struct.pack("<HH", 99, 0))), (30, 20)),
        (exif((0x0112, 3, 2, struct.pack("<HH", 6, 6))), (20, 30)),  # twice: still told
        (exif(TURNED)[:20], (30, 20)),
        (b"Exif\x00\x00nonsense", (30, 20)),
        (b"Exif\x00\x00", (30, 20)),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_malformed_exif_block_neither_stops_nor_turns_an_image(block, size, kind):
    file = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(file, kind, exif=block)
    for image in (file.getvalue(), Image.open(file)):
        assert load_image(image).size == size
    assert to_rgb(open_image(file.getvalue())).size == size


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_the_pixel_limit_is_looked_at_before_decoding(monkeypatch):
    content = saved(Image.new("L", (2000, 1000)))
    sources = ImageSources(max_pixels=1_999_999)
    lazy = Image.open(io.BytesIO(content))
    array = np.zeros((1000, 2000), np.uint8)
    before = Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(type(lazy), "load", lambda self: pytest.fail("decoded"))
    for image in (content, lazy, array, torch.from_numpy(array)):
        with pytest.raises(ValueError, match="2000 x 1000 pixels, and the limit max_pixels is 1,999,999"):
            load_image(image, sources)
    assert Image.MAX_IMAGE_PIXELS == before
    monkeypatch.undo()
    assert load_image(content, ImageSources(max_pixels=2_000_000)).size == (2000, 1000)


@pytest.mark.parametrize("kind", ["EPS", "ICO", "ICNS"])
def test_formats_that_run_programs_or_hide_their_size_are_refused(kind):
    with pytest.raises(ValueError, match="no image, or of a format that is not read"):
        load_image(saved(Image.new("RGB", (64, 64)), kind))


def test_of_many_frames_the_first_is_read_and_the_others_are_not_counted(monkeypatch):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    content = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    monkeypatch.setattr("PIL.GifImagePlugin.GifImageFile.n_frames", property(lambda self: pytest.fail("counted")))
    moved = Image.open(io.BytesIO(content))
    moved.seek(2)
    for image in (content, moved):
        assert np.abs(loaded(image)[0, 0].astype(int) - [255, 0, 0]).max() <= 8


def test_whole_numbers_of_more_bits_with_opacity_are_refused_and_a_transparent_grey_is_white():
    values = np.full((5, 6, 4), 4000, np.uint16)
    values[..., 3] = 65535
    with pytest.raises(ValueError, match="where an image has opacity, found 4000 to 65535"):
        load_image(values)
    assert load_image(values // 258).getpixel((0, 0)) == (16, 16, 16)  # 15, and a 254th of white
    deep = np.zeros((4, 4), np.uint16)
    deep[0], deep[1] = 1000, 2000
    content = io.BytesIO()
    Image.fromarray(deep).save(content, "PNG", transparency=0)
    assert loaded(content.getvalue())[:3, 0, 0].tolist() == [128, 255, 255]


def test_broken_files_of_every_format_are_an_image_or_one_of_our_errors():
    """Cut, flipped and zeroed bytes: other libraries' errors don't come through, whatever the format."""
    choose = random.Random(0)
    image = Image.fromarray(COLOURS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "TGA", "PCX", "JPEG2000", "DDS", "SGI"):
            content = saved(image, kind)
            for _ in range(25):
                broken = bytearray(content)
                for _ in range(choose.randint(1, 8)):
                    broken[choose.randrange(min(len(broken), 200))] = choose.randrange(256)
                broken = broken[: choose.randint(1, len(broken))] if choose.random() < 0.5 else broken
                try:
                    assert loaded(bytes(broken), sources=ImageSources(max_pixels=10**6)).ndim == 3
                except ValueError as error:
                    assert str(error).startswith("expected")


@pytest.fixture
def nothing_said(monkeypatch):
    monkeypatch.setattr("processing.image_loading_dualvqa.SAID", set())


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_of_pages_and_frames_the_first_is_taken_and_that_is_said_once(
    kind, tmp_path, caplog, monkeypatch, nothing_said
):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(tmp_path / "several", kind, save_all=True, append_images=frames[1:], **options)
    monkeypatch.setattr(
        "PIL.TiffImagePlugin.TiffImageFile.n_frames", property(lambda self: self._n_frames or pytest.fail("counted"))
    )
    frames[0].save(tmp_path / "one", kind)
    loaded(tmp_path / "one")
    assert not caplog.records
    for _ in range(2):
        assert np.abs(loaded(tmp_path / "several").astype(int) - [255, 0, 0]).max() <= 1
    (said,) = [record.getMessage() for record in caplog.records]
    assert (
        f"several ({kind}) has several frames or pages: of such files the first is taken, and this is said once" in said
    )


def heic(image, **options):
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=-1, **options)
    return buffer.getvalue()


def test_heic_images_of_phones_are_read_upright():
    image, exif = Image.fromarray(COLOURS[:4, :6]).resize((48, 32)), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    found = loaded(heic(image.transpose(Image.Transpose.ROTATE_90), exif=exif.tobytes())).astype(int)
    assert found.shape == (32, 48, 3) and np.abs(found - np.asarray(image)).mean() < 3


def test_without_its_package_a_heic_image_is_called_what_it_is(monkeypatch):
    content = heic(Image.fromarray(COLOURS))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(Image, "OPEN", {kind: opener for kind, opener in Image.OPEN.items() if kind != "HEIF"})
    with pytest.raises(ValueError, match="a HEIC image, as phones make, which needs pillow-heif: pip install pillow"):
        load_image(content)


def test_avif_images_need_nothing_else():
    buffer = io.BytesIO()
    Image.fromarray(COLOURS).save(buffer, "AVIF", quality=100)
    assert np.abs(loaded(buffer.getvalue()).astype(int) - COLOURS).mean() < 40

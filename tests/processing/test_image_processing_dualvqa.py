import base64
import json
import socket

import numpy as np
import pytest
import torch
from PIL import Image

from processing import DualVQAImageProcessor
from processing.image_processing_dualvqa import to_rgb, without_ends


def gradient16(low=0, high=65535):
    return np.linspace(low, high, 64, dtype=np.uint16).reshape(8, 8)


def pixels(image):
    return np.asarray(to_rgb(image))


def test_an_rgb_image_is_left_alone():
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(pixels(Image.fromarray(values)), values)


def test_grey_becomes_three_equal_channels():
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(pixels(Image.fromarray(values)), np.repeat(values[..., None], 3, axis=2))


def test_16_bit_grey_keeps_its_gradations(tmp_path):
    for name, values in {"full": gradient16(), "twelve_bits": gradient16(high=4095)}.items():
        path = tmp_path / f"{name}.png"
        Image.fromarray(values).save(path)
        rgb = pixels(Image.open(path))
        expected = np.round((values - values.min()) / (values.max() - values.min()) * 255)
        assert np.abs(rgb[..., 0] - expected).max() <= 1
        assert rgb[0, 0, 0] == 0 and rgb[-1, -1, 0] == 255


def test_palette_and_transparency():
    palette = Image.new("RGB", (4, 4), (10, 200, 30)).quantize(4)
    assert palette.mode == "P" and np.abs(pixels(palette)[0, 0].astype(int) - [10, 200, 30]).max() <= 8
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert (pixels(clear) == 255).all()  # nothing, over white
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert abs(int(pixels(half)[0, 0, 0]) - 127) <= 1


def test_cmyk():
    assert np.abs(pixels(Image.new("CMYK", (2, 2), (0, 255, 255, 0)))[0, 0].astype(int) - [255, 0, 0]).max() <= 5


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (4, 2), "black")
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    image.info["exif"] = exif.tobytes()
    image.getexif()[0x0112] = 6
    rgb = to_rgb(image)
    assert rgb.size == (2, 4) and rgb.getpixel((1, 0)) == (255, 255, 255)


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    image = Image.open(tmp_path / "two.gif")
    image.seek(1)
    assert np.abs(pixels(image)[0, 0].astype(int) - [255, 0, 0]).max() <= 8


def test_every_kind_of_input_gives_the_same_pixels(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image = Image.fromarray(values)
    image.save(tmp_path / "image.png")
    process = DualVQAImageProcessor(size={"height": 16, "width": 16})
    expected = process(image, return_tensors="pt")["pixel_values"]
    assert expected.shape == (1, 3, 16, 16) and expected.dtype == torch.float32
    for other in (str(tmp_path / "image.png"), values, torch.from_numpy(values).permute(2, 0, 1), [image]):
        assert torch.equal(process(other, return_tensors="pt")["pixel_values"], expected)


def test_pixels_are_rescaled_and_normalised():
    white = Image.new("RGB", (8, 8), "white")
    process = DualVQAImageProcessor(size={"height": 4, "width": 4}, image_mean=[0.5] * 3, image_std=[0.25] * 3)
    torch.testing.assert_close(process(white, return_tensors="pt")["pixel_values"], torch.full((1, 3, 4, 4), 2.0))


def test_16_bit_arrays_are_stretched_too():
    process = DualVQAImageProcessor(size={"height": 8, "width": 8}, do_normalize=False)
    array = np.repeat(gradient16(high=4095)[..., None], 3, axis=2)
    tensor = process(array, return_tensors="pt")["pixel_values"]
    assert tensor.min() == 0 and tensor.max() == 1


def test_save_and_load(tmp_path):
    DualVQAImageProcessor(size={"height": 96, "width": 64}, image_mean=[0.1, 0.2, 0.3]).save_pretrained(tmp_path)
    again = DualVQAImageProcessor.from_pretrained(tmp_path)
    assert (again.size["height"], again.size["width"]) == (96, 64)
    assert tuple(again.image_mean) == (0.1, 0.2, 0.3) and again.do_resize


def test_options_of_a_call_are_for_that_call_alone_and_unknown_ones_are_refused():
    process, image = DualVQAImageProcessor(), Image.new("RGB", (8, 8), "white")
    small = process(image, return_tensors="pt", size={"height": 4, "width": 6}, do_normalize=False)["pixel_values"]
    assert small.shape == (1, 3, 4, 6) and (small == 1).all()
    assert process(image, return_tensors="pt")["pixel_values"].shape == (1, 3, 224, 224)
    with pytest.raises(TypeError, match="colour"):
        process(image, colour="grey")


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    for name in ("notes.png", "missing.png"):
        with pytest.raises(ValueError, match=name):
            DualVQAImageProcessor()(str(tmp_path / name))


def test_a_server_that_stays_silent_is_named():
    process = DualVQAImageProcessor()
    process.sources = {"internal": True, "seconds": 0.2}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/image.png"
        with pytest.raises(ValueError, match=f"readable image at {url}: timed out"):
            process(url)


def test_an_image_may_be_written_into_its_address(tmp_path):
    Image.new("RGB", (4, 4), "blue").save(tmp_path / "blue.png")
    address = "data:image/png;base64," + base64.b64encode((tmp_path / "blue.png").read_bytes()).decode()
    process = DualVQAImageProcessor(size={"height": 4, "width": 4}, do_normalize=False)
    assert process(address, return_tensors="pt")["pixel_values"][0, :, 0, 0].tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match="readable image at data:image/png;base64,nonsense"):
        process("data:image/png;base64,nonsense")


def test_bytes_and_embedded_images_are_images(tmp_path):
    Image.effect_noise((8, 6), 90).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    process = DualVQAImageProcessor(size={"height": 4, "width": 4})
    expected = process(str(tmp_path / "a.png"), return_tensors="pt")["pixel_values"]
    embedded = [{"bytes": content, "path": "a.png"}, {"bytes": None, "path": str(tmp_path / "a.png")}]
    for image in (content, *embedded):
        assert torch.equal(process(image, return_tensors="pt")["pixel_values"], expected)
        assert process.read(image) == content and process.load(image).size == (8, 6)
    assert process([content, *embedded], return_tensors="pt")["pixel_values"].shape == (3, 3, 4, 4)
    for image in (Image.new("L", (4, 4)), np.zeros((4, 8, 3)), torch.zeros(3, 8, 8), 42, None):
        assert process.read(image) is None


def test_where_images_may_come_from_is_never_saved_nor_loaded(tmp_path):
    process = DualVQAImageProcessor()
    process.sources = "objects"
    process.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert not [name for name in saved if "sources" in name] and "sources" not in str(process)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**saved, "sources": "objects", "_sources": {}}))
    assert DualVQAImageProcessor.from_pretrained(tmp_path).sources == DualVQAImageProcessor().sources
    with pytest.raises(ValueError, match="paths are not allowed here"):
        process(str(tmp_path / "a.png"))
    with pytest.raises(ValueError, match="expected image sources as one of any, objects"):
        process.sources = "everything"


def test_lists_and_arrays_of_images_are_batches():
    values = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    process = DualVQAImageProcessor(size={"height": 8, "width": 8})
    expected = process(list(values), return_tensors="pt")["pixel_values"]
    tensors = torch.from_numpy(values).permute(0, 3, 1, 2)
    for images in (values, tensors, [values[:1], values[1:]], [list(values)], [values[0], tensors[1], values[2]]):
        assert torch.equal(process(images, return_tensors="pt")["pixel_values"], expected)
    greys = process([values[0, ..., 0], values[1, ..., 0]], return_tensors="pt")["pixel_values"]
    assert greys.shape == (2, 3, 8, 8)


def test_floats_that_are_not_to_be_rescaled_are_the_models_already():
    values = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    process = DualVQAImageProcessor(size={"height": 8, "width": 8}, do_rescale=False, do_normalize=False)
    for image in (
        values,
        torch.from_numpy(values),
        torch.from_numpy(values).requires_grad_(),
        values.transpose(1, 2, 0),
    ):
        assert np.array_equal(process(image, return_tensors="pt")["pixel_values"][0], values)
    values[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="finite pixels"):
        process(values)


@pytest.mark.parametrize(
    "options", [{"rescale_factor": float("inf")}, {"image_mean": [float("nan")] * 3}, {"image_std": [0.0, 1.0, 1.0]}]
)
def test_options_of_a_call_that_leave_no_finite_pixels_are_refused(options):
    with pytest.raises(ValueError, match="finite pixels|std"):
        DualVQAImageProcessor()(Image.new("RGB", (8, 8), "red"), return_tensors="pt", **options)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_photo_that_its_file_turns_is_turned_once(tmp_path, orientation):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:32], pixels[:, :16] = (255, 0, 0), (0, 255, 0)
    photo = Image.fromarray(pixels)
    exif = photo.getexif()
    exif[0x0112] = orientation
    photo.save(tmp_path / "photo.png", exif=exif)
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}[orientation]
    processor = DualVQAImageProcessor(size={"height": 64, "width": 64})
    expected = processor(Image.fromarray(pixels).transpose(turn), return_tensors="pt")["pixel_values"]
    for given in (
        str(tmp_path / "photo.png"),
        Image.open(tmp_path / "photo.png"),
        [(tmp_path / "photo.png").read_bytes()],
    ):
        assert torch.equal(processor(given, return_tensors="pt")["pixel_values"], expected)


@pytest.mark.parametrize("shape", [(6, 601), (600, 6), (1, 900)])
def test_of_a_very_long_image_only_what_the_crop_may_show_is_resized(monkeypatch, shape):
    crop = {"do_center_crop": True, "crop_size": {"height": 14, "width": 14}}
    processor = DualVQAImageProcessor(size={"shortest_edge": 16}, **crop)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    found = processor(images=image, return_tensors="pt")["pixel_values"]
    short = without_ends(torch.zeros(3, *shape), {"shortest_edge": 16}, crop["crop_size"])
    assert max(short.shape) < 150 and min(short.shape[1:]) == min(shape)
    monkeypatch.setattr("processing.image_processing_dualvqa.without_ends", lambda image, *_: image)
    whole = processor(images=image, return_tensors="pt")["pixel_values"]
    assert found.shape == whole.shape == (1, 3, 14, 14) and (found - whole).abs().max() < 0.1

import errno
import logging
import os
import shutil

import pytest
import torch
from PIL import Image

from dualvqa.training import image_cache as module
from dualvqa.training.image_cache import cache_images as fill
from processing import AugmentationArguments, DataArguments, VQACollator, build_augmentation, prepare_datasets
from processing.image_keys import UnchangedRows


@pytest.fixture
def rows(image_folder):
    args = DataArguments(train_file=str(image_folder / "train.jsonl"), image_dir=str(image_folder))
    args.validation_fraction = 0
    return prepare_datasets(args)[0]["train"]


@pytest.fixture(autouse=True)
def log(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def augmented(processor):
    return VQACollator(processor, build_augmentation(AugmentationArguments(random_rotation=20.0)))


def pixels(collator, rows):
    return collator(list(rows))["pixel_values"]


def without_files(rows):
    """Rows whose images can't be opened: only a cache has their pixels."""
    return [{**row, "image": {"bytes": None, "path": "gone.png"}} for row in rows]


@pytest.mark.parametrize("build", [VQACollator, augmented])
def test_batches_are_the_same_with_and_without_a_cache(build, processor, rows, tmp_path):
    plain, cached = build(processor), build(processor)
    fill(rows, cached, tmp_path / "cache")
    for epoch in (0, 1):
        plain.set_epoch(epoch), cached.set_epoch(epoch)
        assert torch.equal(pixels(plain, rows), pixels(cached, without_files(rows)))


def test_pixels_are_those_of_the_processor(processor, rows, tmp_path):
    collator = VQACollator(processor)
    fill(rows, collator, tmp_path / "cache")
    paths = list(dict.fromkeys(row["image"]["path"] for row in rows))
    expected = processor.image_processor(paths, return_tensors="pt")["pixel_values"]
    assert torch.equal(pixels(collator, without_files(rows)), expected)


def test_augmented_images_have_a_margin_for_the_crop(processor):
    arguments = {"color_jitter": 0.0}
    sizes = {0.64: 40, 1.0: 32, 0.01: 64}
    for scale, side in sizes.items():
        augmentation = build_augmentation(
            AugmentationArguments(**arguments, random_crop_scale=scale, horizontal_flip=0.5)
        )
        assert VQACollator(processor, augmentation).frame == {"size": {"height": side, "width": side}}


def test_a_second_run_finds_the_file(processor, rows, tmp_path, monkeypatch):
    fill(rows, VQACollator(processor), tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()
    monkeypatch.setattr(module, "write_file", None)
    collator = VQACollator(processor)
    fill(rows, collator, tmp_path / "cache")
    assert collator.cache.path == str(path)


def test_another_size_or_another_image_is_another_file(processor, rows, tmp_path, image_folder):
    cache = tmp_path / "cache"
    fill(rows, VQACollator(processor), cache)
    processor.image_processor.size = {"height": 16, "width": 16}
    small = VQACollator(processor)
    fill(rows, small, cache)
    assert len(list(cache.iterdir())) == 2 and pixels(small, rows).shape[-1] == 16
    Image.new("RGB", (40, 30), "white").save(image_folder / "0.png")
    args = DataArguments(train_file=str(image_folder / "train.jsonl"), image_dir=str(image_folder))
    args.validation_fraction = 0
    changed = prepare_datasets(args)[0]["train"]
    fill(changed, small, cache)
    assert len(list(cache.iterdir())) == 3
    assert torch.equal(pixels(small, changed), pixels(VQACollator(processor), changed))


@pytest.mark.parametrize("damage", ["short", "header", "index", "pixels"])
def test_a_damaged_file_is_made_anew(damage, processor, rows, tmp_path, log):
    cache = tmp_path / "cache"
    fill(rows, VQACollator(processor), cache)
    (path,) = cache.iterdir()
    content = path.read_bytes()
    header = content.index(b"\n", len(module.MAGIC)) + 1
    place = {"header": len(module.MAGIC) + 3, "index": header, "pixels": len(content) - 100}.get(damage)
    changed = place is not None and bytes([content[place] ^ 1])
    path.write_bytes(content[:-1] if place is None else content[:place] + changed + content[place + 1 :])
    fill(rows, VQACollator(processor), cache)
    assert path.read_bytes() == content and "made anew" in log.text


def full_disk(path, head, blocks):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_without_a_file_a_few_images_are_kept_in_memory(processor, rows, tmp_path, monkeypatch, log):
    monkeypatch.setattr(module, "write_file", full_disk)
    collator = VQACollator(processor)
    fill(rows, collator, tmp_path / "cache")
    assert "No space left on device. They are kept in memory" in log.text
    assert torch.equal(pixels(collator, without_files(rows)), pixels(VQACollator(processor), rows))


def test_without_a_file_many_images_are_decoded(processor, rows, tmp_path, monkeypatch, log):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(module, "MEMORY_BYTES", 1000)
    collator = VQACollator(processor)
    fill(rows, collator, tmp_path / "file")
    assert collator.cache is None and "can't hold decoded images" in log.text and "for every batch" in log.text


def test_a_file_that_fails_leaves_nothing(processor, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(module.os, "replace", lambda *names: full_disk(*names, None))
    fill(rows, VQACollator(processor), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("case", [(10**12, 1e-6, "image_cache_gib 1e-06"), (100, 8, "free")])
def test_bounds_of_size(processor, rows, tmp_path, monkeypatch, log, case):
    free, limit, message = case
    usage = type(shutil.disk_usage("."))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage(free, 0, free))
    fill(rows, VQACollator(processor), tmp_path / "cache", limit)
    assert message in log.text and not list((tmp_path / "cache").iterdir())


def test_images_of_many_sizes_are_not_kept(processor, rows, tmp_path, log):
    processor.image_processor.do_resize = False
    collator = VQACollator(processor)
    fill(rows, collator, tmp_path / "cache")
    assert collator.cache is None and "in one size" in log.text


def test_a_file_that_is_deleted_meanwhile_stops_nothing(processor, rows, tmp_path, log):
    collator = VQACollator(processor)
    fill(rows, collator, tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    assert torch.equal(pixels(collator, rows), pixels(VQACollator(processor), rows))
    assert "can't be read" in log.text and collator.cache is None


def test_images_that_are_not_in_the_cache_are_decoded(processor, rows, tmp_path):
    collator = VQACollator(processor)
    fill(rows.select(range(4)), collator, tmp_path / "cache")
    assert torch.equal(pixels(collator, rows), pixels(VQACollator(processor), rows))
    assert os.path.exists(collator.cache.path)


def test_an_image_that_changed_since_it_was_checked_is_not_kept_under_the_key_of_what_it_was(
    rows, processor, tmp_path, image_folder
):
    Image.new("RGB", (40, 30), "white").save(image_folder / "3.png")
    with pytest.raises(ValueError, match=r"3\.png has changed since it was checked"):
        fill(rows, VQACollator(processor), str(tmp_path / "cache"))
    assert not list((tmp_path / "cache").glob("*.pixels"))
    with pytest.raises(ValueError, match="has changed since it was checked"):
        UnchangedRows(VQACollator(processor))(list(rows))

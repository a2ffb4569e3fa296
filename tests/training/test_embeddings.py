import json
import os

import pytest
import torch
from safetensors.torch import load_file

from dualvqa.run import main as run_vqa
from dualvqa.training import embeddings
from dualvqa.training.embeddings import embed_parts, reasons_against
from processing import DataArguments, VQACollator, prepare_datasets


@pytest.fixture
def parts(image_folder):
    args = DataArguments(train_file=str(image_folder / "train.jsonl"), image_dir=str(image_folder))
    return prepare_datasets(args)[0]


@pytest.fixture
def embed(processor, parts, tmp_path):
    """Embeds the parts with a model, in `embeddings` or another folder of this test."""
    return lambda model, folder="embeddings": embed_parts(model, VQACollator(processor), parts, str(tmp_path / folder))


@pytest.fixture
def frozen(tiny_model):
    return lambda **fields: tiny_model(freeze_vision=True, freeze_text=True, **fields)


@pytest.fixture
def encoded():
    """Makes a model count the images and questions that its towers encode."""

    def count(model):
        counts = {"images": 0, "questions": 0}

        def add(name):
            return lambda _, inputs: counts.__setitem__(name, counts[name] + len(inputs[0]))

        model.vision_encoder.register_forward_pre_hook(add("images"))
        model.text_encoder.register_forward_pre_hook(add("questions"))
        return counts

    return count


@pytest.mark.parametrize("fusion_type", ["attention", "cross_attention"])
def test_a_batch_of_embeddings_answers_as_one_of_pixels(frozen, processor, parts, tmp_path, fusion_type):
    model = frozen(fusion_type=fusion_type)
    collator, rows = VQACollator(processor), list(parts["train"])[:7]
    stored = embed_parts(model, collator, parts, str(tmp_path / "embeddings"))
    plain, embedded = collator(rows), VQACollator(processor, embeddings=stored)(rows)
    assert "pixel_values" not in embedded and "input_ids" not in embedded
    with torch.no_grad():
        expected, found = model(**plain), model(**embedded)
    for name in ("loss", "binary_logits", "open_ended_logits", "question_type_logits"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", [("vision", "image", "input_ids"), ("text", "text", "pixel_values")])
def test_one_frozen_tower_is_run_once_while_the_other_learns(tiny_model, processor, parts, tmp_path, case):
    tower, name, left = case
    model = tiny_model(**{f"freeze_{tower}": True}).eval()
    collator, rows = VQACollator(processor), list(parts["train"])[:7]
    stored = embed_parts(model, collator, parts, str(tmp_path), towers=[tower])
    embedded = VQACollator(processor, embeddings=stored)(rows)
    assert left in embedded and f"{name}_embeds" in embedded
    with torch.no_grad():
        torch.testing.assert_close(model(**embedded).loss, model(**collator(rows)).loss, rtol=1e-5, atol=1e-6)


def test_each_image_and_question_is_encoded_once_and_read_from_then_on(frozen, processor, parts, tmp_path, encoded):
    model, folder = frozen(), str(tmp_path / "embeddings")
    counts = encoded(model)
    for _ in range(2):
        embed_parts(model, VQACollator(processor), parts, folder, batch_size=3)
        assert counts == {"images": 8, "questions": 2}
    assert sorted(os.listdir(folder)) == ["images", "questions"]


def flip_a_byte(folder):
    path = folder / "images" / "0.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def cut_the_index(folder):
    path = folder / "images" / "index.json"
    path.write_text(path.read_text()[:40])


def forget_an_image(folder):
    path = folder / "images" / "index.json"
    index = json.loads(path.read_text())
    index["places"].popitem()
    path.write_text(json.dumps(index))


def exchange_two_images(folder):
    path = folder / "images" / "index.json"
    index = json.loads(path.read_text())
    first, second = list(index["places"])[:2]
    index["places"][first], index["places"][second] = index["places"][second], index["places"][first]
    path.write_text(json.dumps(index))


def flip_a_byte_and_its_hash(folder):
    flip_a_byte(folder)
    path = folder / "images" / "index.json"
    index = json.loads(path.read_text())
    index["shards"]["0.safetensors"] = embeddings.file_hash(folder / "images" / "0.safetensors")
    path.write_text(json.dumps(index))


def index_of(text):
    """A damage that leaves an index of that text."""
    return lambda folder: (folder / "images" / "index.json").write_text(text)


NOT_AS_WRITTEN = "index.json is not as it was written"


@pytest.mark.parametrize(
    "case",
    [
        (flip_a_byte, "damaged"),
        (cut_the_index, "computed again"),
        (forget_an_image, NOT_AS_WRITTEN),
        (exchange_two_images, NOT_AS_WRITTEN),
        (flip_a_byte_and_its_hash, NOT_AS_WRITTEN),
        (index_of("[]"), NOT_AS_WRITTEN),
        (index_of("5"), NOT_AS_WRITTEN),
        (index_of("null"), NOT_AS_WRITTEN),
        (index_of("[" * 100_000), "computed again"),
    ],
)
def test_what_is_damaged_is_computed_again(frozen, embed, encoded, tmp_path, caplog, case):
    model, folder, (damage, message) = frozen(), tmp_path / "embeddings", case
    embed(model)
    before = load_file(folder / "images" / "0.safetensors")["embeddings"].clone()
    damage(folder)
    counts = encoded(model)
    embed(model)
    assert message in caplog.text and counts == {"images": 8, "questions": 0}
    assert torch.equal(load_file(folder / "images" / "0.safetensors")["embeddings"], before)


def test_other_weights_and_settings_are_never_served(frozen, processor, parts, tmp_path, encoded, caplog):
    model, folder = frozen(), str(tmp_path / "embeddings")
    counts = encoded(model)
    embed_parts(model, VQACollator(processor), parts, folder)
    with torch.no_grad():
        next(model.text_encoder.parameters()).add_(1e-3)
    embed_parts(model, VQACollator(processor), parts, folder)
    assert counts == {"images": 8, "questions": 4} and "other weights or settings" in caplog.text
    processor.image_processor.image_mean = [0.1, 0.1, 0.1]
    embed_parts(model, VQACollator(processor), parts, folder)
    assert counts == {"images": 16, "questions": 4}


def test_small_shards_hold_the_same(frozen, processor, parts, tmp_path, monkeypatch):
    model, collator = frozen(fusion_type="cross_attention"), VQACollator(processor)
    whole = embed_parts(model, collator, parts, str(tmp_path / "whole"))
    monkeypatch.setattr(embeddings, "SHARD_BYTES", 1500)
    small = embed_parts(model, collator, parts, str(tmp_path / "small"))
    assert len(small.images.shards) > 2 and len(whole.images.shards) == 1
    for store, other in ((whole.images, small.images), (whole.questions, small.questions)):
        assert all(map(torch.equal, store.get(store.places), other.get(store.places)))


@pytest.mark.parametrize("bound", [2**30, 100])
def test_a_folder_that_can_not_be_written(frozen, embed, tmp_path, monkeypatch, caplog, bound):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(embeddings, "MEMORY_BYTES", bound)
    monkeypatch.setattr(embeddings, "SHARD_BYTES", 100)
    stored, kept = embed(frozen(), "file/embeddings"), bound > 100
    assert (stored is not None) == kept
    assert ("stay in memory" if kept else "too large for memory") in caplog.text


def test_reasons_against(tiny_model, frozen):
    half = reasons_against(tiny_model(freeze_vision=True), None, False)
    assert half["vision"] is None and "freeze_text=true" in half["text"]
    augmented = reasons_against(frozen(), lambda image: image, False)
    assert "--random_crop_scale 1" in augmented["vision"] and augmented["text"] is None
    assert all("--streaming" in reason for reason in reasons_against(frozen(), None, True).values())
    assert reasons_against(frozen(), None, False) == {"vision": None, "text": None}


SETTINGS = (
    "--do_train --do_eval --num_train_epochs 3 --per_device_train_batch_size 4 --report_to none --use_cpu".split()
)
OFF = "--random_crop_scale 1 --color_jitter 0".split()
SMALL = (
    "vision_config.image_size=32 fusion_hidden_size=16 fusion_num_attention_heads=2 text_config.dim=16 "
    "text_config.hidden_dim=32 text_config.n_layers=1 text_config.n_heads=2 freeze_vision=true freeze_text=true"
).split()


@pytest.mark.slow
def test_a_run_with_embeddings_ends_as_one_without(image_folder, tmp_path, caplog):
    data = ["--train_file", str(image_folder / "train.jsonl"), "--image_dir", str(image_folder)]
    for name in ("auto", "false"):
        output = ["--output_dir", str(tmp_path / name), "--cache_embeddings", name]
        run_vqa.main([*SETTINGS, *OFF, *data, *output, "--config", *SMALL])
    found, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("auto", "false"))
    assert (tmp_path / "auto" / "embeddings").is_dir() and not (tmp_path / "false" / "embeddings").exists()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5, msg=name)


def test_asking_for_it_with_augmentation_is_refused(image_folder, tmp_path):
    data = ["--train_file", str(image_folder / "train.jsonl"), "--image_dir", str(image_folder)]
    output = ["--output_dir", str(tmp_path / "out"), "--cache_embeddings", "true", "--color_jitter", "0.2"]
    with pytest.raises(SystemExit, match="--cache_embeddings true: augmentation"):
        run_vqa.main([*SETTINGS, *data, *output, "--config", *SMALL])

import pytest
import torch
from torchvision.transforms import v2

from processing import AugmentationArguments, DataArguments, VQACollator, build_augmentation, prepare_datasets


@pytest.fixture
def rows(image_folder):
    args = DataArguments(train_file=str(image_folder / "train.jsonl"), image_dir=str(image_folder))
    args.validation_fraction = 0
    parts, _, _ = prepare_datasets(args)
    return parts["train"].select(range(6))


def test_each_different_image_and_question_is_encoded_once(processor, rows):
    batch = VQACollator(processor)(list(rows))
    assert len(next(iter(batch.values()))) == 6  # the Trainer reads the number of rows off the first tensor
    assert batch["pixel_values"].shape == (3, 3, 32, 32)
    assert batch["image_index"].tolist() == [0, 0, 1, 1, 2, 2]
    assert batch["input_ids"].shape[0] == batch["attention_mask"].shape[0] == 2
    assert batch["question_index"].tolist() == [0, 1, 0, 1, 0, 1]


def test_labels(processor, rows):
    processor.answers = ["red", "blue"]
    batch = VQACollator(processor)(list(rows))
    assert batch["open_ended_labels"].tolist() == [0, -100, -100, -100, 1, -100]  # green is not in the vocabulary
    assert batch["binary_labels"].tolist() == [-100, 1, -100, 0, -100, 0]
    assert batch["question_type_labels"].tolist() == [1, 0, 1, 0, 1, 0]


def test_rows_without_answers_have_no_labels(processor, rows):
    batch = VQACollator(processor)(list(rows.remove_columns("answer")))
    assert not [name for name in batch if name.endswith("labels")]


def test_the_default_augmentation_keeps_left_and_right():
    augment = build_augmentation(AugmentationArguments())
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    image[:, :, 30:] = 200  # a light bar at the right
    for _ in range(50):
        changed = augment(image.clone()).float()
        assert changed[:, :, -3:].mean() > changed[:, :, :3].mean() + 100


def test_augmentation_changes_training_images_only(processor, rows):
    plain, augmented = VQACollator(processor), VQACollator(processor, build_augmentation(AugmentationArguments()))
    assert torch.equal(plain(list(rows))["pixel_values"], plain(list(rows))["pixel_values"])
    assert not torch.equal(augmented(list(rows))["pixel_values"], plain(list(rows))["pixel_values"])


def test_augmentation_depends_on_seed_epoch_and_image_alone(processor, rows):
    def pixels(rows, seed=0, epoch=0):
        collator = VQACollator(processor, build_augmentation(AugmentationArguments()), seed)
        collator.set_epoch(epoch)
        return collator(list(rows))["pixel_values"]

    whole, state = pixels(rows), torch.get_rng_state()
    assert torch.equal(whole, pixels(rows)) and torch.equal(state, torch.get_rng_state())
    assert not torch.equal(whole, pixels(rows, epoch=1)) and not torch.equal(whole, pixels(rows, seed=1))
    last = [row for row in rows if row["image_key"] == rows[len(rows) - 1]["image_key"]]
    assert torch.equal(pixels(last)[0], whole[-1])


def test_flips_on_request():
    off = {"random_crop_scale": 1.0, "color_jitter": 0.0}
    assert build_augmentation(AugmentationArguments(**off)) is None
    image = torch.arange(12, dtype=torch.uint8).reshape(1, 2, 6).expand(3, 2, 6)
    flip = build_augmentation(AugmentationArguments(**off, horizontal_flip=1.0))
    assert torch.equal(flip(image), v2.functional.horizontal_flip(image))


@pytest.mark.parametrize("fields", [{"random_crop_scale": 0.0}, {"color_jitter": -1.0}, {"horizontal_flip": 2.0}])
def test_values_outside_their_range_are_named(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        build_augmentation(AugmentationArguments(**fields))

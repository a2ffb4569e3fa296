import pytest
from helpers import data_arguments as arguments
from helpers import write_jsonl

from processing import fold_of, leakage_report, prepare_datasets, split_by_image


def test_no_image_is_in_both_parts_of_a_split(picture_folder):
    train = prepare_datasets(arguments(picture_folder))[0]["train"]
    first, second = split_by_image(train, 0.25, seed=1)
    assert len(first) + len(second) == 16 and len(set(second["image_key"])) == 2
    assert not set(first["image_key"]) & set(second["image_key"])
    assert list(split_by_image(train, 0.25, seed=1)[1]["row"]) == list(second["row"])
    assert any(list(split_by_image(train, 0.25, seed)[1]["row"]) != list(second["row"]) for seed in range(2, 6))


def test_leakage_report_counts_pictures_by_their_content(picture_folder):
    train = prepare_datasets(arguments(picture_folder))[0]["train"]
    (picture_folder / "copy.png").write_bytes((picture_folder / "0.png").read_bytes())
    rows = [
        {"image": "copy.png", "question": "what color is it?", "answer": "Red."},  # seen word for word
        {"image": "copy.png", "question": "which colour?", "answer": "red"},  # picture and answer seen
        {"image": "copy.png", "question": "which colour?", "answer": "purple"},  # picture seen
    ]
    path = write_jsonl(picture_folder / "val.jsonl", rows)
    validation = prepare_datasets(arguments(picture_folder, validation_file=path))[0]["validation"]
    assert leakage_report(train, validation) == {
        "images": 1,
        "images_seen": 1,
        "questions": 3,
        "image_answer_pairs_seen": 2,
        "examples_seen": 1,
    }
    assert leakage_report(*split_by_image(train, 0.5, 0))["images_seen"] == 0


@pytest.mark.parametrize("folds", [2, 3, 8])
def test_every_row_is_held_out_in_one_fold_and_no_image_is_on_both_sides(picture_folder, folds):
    train = prepare_datasets(arguments(picture_folder))[0]["train"]
    rows = []
    for fold in range(folds):
        first, second = fold_of(train, folds, fold, seed=0)
        assert not set(first["image_key"]) & set(second["image_key"])
        assert sorted([*first["row"], *second["row"]]) == train["row"][:]
        rows += second["row"]
    assert sorted(rows) == train["row"][:]


def test_a_run_takes_the_fold_that_it_is_given(picture_folder):
    held_out = [
        prepare_datasets(arguments(picture_folder, folds=4, fold=fold), training)[0]["validation"]["row"][:]
        for fold, training in ((1, True), (1, False), (2, True))
    ]
    assert held_out[0] == held_out[1] and not set(held_out[0]) & set(held_out[2])

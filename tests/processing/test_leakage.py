"""What is said of an evaluation part: how much of it was in training, in which words."""

import pytest
from datasets import Dataset
from helpers import data_arguments as arguments
from helpers import write_jsonl

from processing import held_out, leakage_report, prepare_datasets, split_by_image


def test_leakage_report_counts_images_by_their_content(image_folder):
    train = prepare_datasets(arguments(image_folder))[0]["train"]
    (image_folder / "copy.png").write_bytes((image_folder / "0.png").read_bytes())
    rows = [
        {"image": "copy.png", "question": "what color is it?", "answer": "Red."},  # seen word for word
        {"image": "copy.png", "question": "which colour?", "answer": "red"},  # image and answer seen
        {"image": "copy.png", "question": "which colour?", "answer": "purple"},  # image seen
    ]
    path = write_jsonl(image_folder / "val.jsonl", rows)
    validation = prepare_datasets(arguments(image_folder, validation_file=path))[0]["validation"]
    assert leakage_report(train, validation) == {
        "images": 1,
        "images_seen": 1,
        "questions": 3,
        "image_question_pairs_seen": 1,
        "rewordings_seen": 1,
        "image_answer_pairs_seen": 2,
        "examples_seen": 1,
    }
    assert leakage_report(*split_by_image(train, 0.5, 0))["images_seen"] == 0


TRAIN = Dataset.from_dict(
    {"image_key": ["a", "a", "b"], "question": ["is the liver large?", "what plane?", "what plane?"]}
)


@pytest.mark.parametrize(
    "images, questions, words",
    [
        (["c"], ["what plane?"], "held out by image"),
        (["a", "b"], ["where is the mass?"] * 2, "held out by question"),
        (["a", "b"], ["is the liver larger?", "which plane?"], "held out by wording"),
        (
            ["a", "c", "a"],
            ["What plane"] * 3,
            "50.0% of the images, 66.7% of the questions in some wording and 66.7% word",
        ),
        (["a", "b"], ["which plane?", "where is the mass?"], "100.0% of the images, 50.0% of the questions in some"),
    ],
)
def test_what_a_figure_is_of_is_found_by_comparing_with_training(images, questions, words):
    report = leakage_report(TRAIN, Dataset.from_dict({"image_key": images, "question": questions}))
    assert held_out(report).startswith(words)
    assert "examples_seen" not in report  # of questions without answers


def test_rewordings_are_told_by_a_column_where_both_parts_have_it():
    train = TRAIN.add_column("group", [1, 2, 3])
    rows = Dataset.from_dict({"image_key": ["a", "b"], "question": ["is it big?", "what plane?"], "group": [1, 4]})
    assert leakage_report(train, rows, "group")["rewordings_seen"] == 1
    assert leakage_report(TRAIN, rows, "group")["rewordings_seen"] == 1
    assert leakage_report(TRAIN, rows.select([0]), "group")["rewordings_seen"] == 0

"""What the card records of the data."""

import pytest
from helpers import data_arguments, lines_of, write_jsonl

from dualvqa.training.record import describe_majority, recorded_majority, validation_part
from processing import AnswerRules, prepare_datasets
from processing.summary import summarise


@pytest.mark.parametrize(
    "parts, fields, said",
    [
        (["train"], {"validation_fraction": 0.25}, "25% of the training images, split seed 0"),
        (["train"], {"validation_fraction": 0.0}, None),
        (["train", "validation"], {"validation_fraction": 0.25}, None),
    ],
)
def test_the_validation_part_is_called_cut_only_where_it_was(image_folder, parts, fields, said):
    """Also of a data set with a validation part of its own, which no flag names."""
    (image_folder / "set").mkdir()
    rows = [{**row, "image": str(image_folder / row["image"])} for row in lines_of(image_folder / "train.jsonl")]
    for part in parts:
        write_jsonl(image_folder / "set" / f"{part}.jsonl", rows)
    args = data_arguments(image_folder, train_file=None, dataset_name=str(image_folder / "set"), **fields)
    assert set(prepare_datasets(args)[0]) == ({"train", "validation"} if said or len(parts) > 1 else {"train"})
    assert validation_part(args) == said


def test_the_most_frequent_answers_are_as_most_people_wrote_them():
    rules = AnswerRules(["Ja"], ["Nein"], "de")
    answers = ["Röntgen Thorax", "Röntgen Thorax", "röntgen thorax", "Leber", "ja", "JA", "Nein"]
    majority = describe_majority(summarise([("q?", answer) for answer in answers], rules=rules))
    assert majority["open_ended"] == {"answer": "Röntgen Thorax", "share": 0.75}
    assert majority["binary"]["answer"] == "Ja"
    kept = recorded_majority({"data": [{"part": "train", "majority": majority}]})
    assert rules.score(kept["open_ended"], "röntgen thorax") == 1

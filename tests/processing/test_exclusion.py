import pytest
from helpers import data_arguments as arguments
from helpers import write_jsonl

from processing import prepare_datasets

OWN = [{"flagged": True, "fold": 1}, {"flagged": "true", "fold": "1"}, {"flagged": False, "fold": 1.0}, {"fold": None}]


def rows_left(folder, *rules, own=OWN):
    path = write_jsonl(folder / "rows.jsonl", [{"image": "0.png", "question": "q?", "answer": "a", **o} for o in own])
    args = arguments(folder, train_file=path, exclude_rows=list(rules))
    return list(prepare_datasets(args)[0]["train"]["row"])


@pytest.mark.parametrize(
    "rules, left",
    [
        (["flagged=true"], [2, 3]),
        (["flagged=True"], [1, 2, 3]),  # as Python writes it
        (["flagged=false"], [0, 1, 3]),
        (["fold=1"], [3]),
        (["fold=1.0"], [0, 1, 3]),
        (["fold=null"], [0, 1, 2]),
        (["flagged=true", "flagged=false"], [3]),
    ],
)
def test_values_are_compared_as_json_writes_them(image_folder, rules, left):
    assert rows_left(image_folder, *rules) == left


def test_a_rule_that_leaves_nothing_out_is_told_with_the_values_there_are(image_folder, caplog):
    assert rows_left(image_folder, "flagged=ture") == [0, 1, 2, 3]
    assert 'flagged=ture leaves nothing out; values of flagged are true, "true", false, null' in caplog.text


def test_a_rule_on_a_column_that_is_not_there_is_refused(image_folder):
    with pytest.raises(
        ValueError, match="flaged=true: no column 'flaged', found image, question, answer, flagged, fold"
    ):
        rows_left(image_folder, "flaged=true")


def test_a_column_that_only_one_part_has_is_enough(image_folder, caplog):
    args = arguments(image_folder, exclude_rows=["qid=-1"])
    args.validation_file = write_jsonl(
        image_folder / "val.jsonl", [{"image": "0.png", "question": "q?", "answer": "a"}]
    )
    parts = prepare_datasets(args)[0]
    assert (len(parts["train"]), len(parts["validation"])) == (8, 1)
    assert "val.jsonl has no column qid" in caplog.text

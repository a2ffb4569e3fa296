from pathlib import Path
from types import SimpleNamespace

import pytest
from datasets import Dataset
from helpers import data_arguments as arguments

from processing import fold_of, prepare_datasets, split_by_image, split_dataset

# Three images, each with two questions in two wordings each, and one in one.
ASKED = [
    "Is the spleen normal size?",
    "is the size of the spleen normal",
    "Where is the mass?",
    "where's the mass located",
]
ROWS = {
    "image_key": [image for image in "abc" for _ in range(6)],
    "question": [*ASKED, ASKED[0], "what plane?"] * 3,
    "row": list(range(18)),
}


def asking(split_by, **fields):
    defaults = {"validation_fraction": 0.3, "folds": None, "fold": 0, "split_seed": 0, "question_group_column": None}
    return SimpleNamespace(**{**defaults, "split_by": split_by, **fields})


def pairs_of(rows, names):
    return set(zip(rows["image_key"][:], (names[question] for question in rows["question"][:])))


QUESTION = dict(zip([*ASKED, "what plane?"], "SSMMP"))
WORDING = {question: question for question in QUESTION}


def test_no_image_is_in_both_parts_of_a_split(image_folder):
    train = prepare_datasets(arguments(image_folder))[0]["train"]
    first, second = split_by_image(train, 0.25, seed=1)
    assert len(first) + len(second) == 16 and len(set(second["image_key"])) == 2
    assert not set(first["image_key"]) & set(second["image_key"])
    assert list(split_by_image(train, 0.25, seed=1)[1]["row"]) == list(second["row"])
    assert any(list(split_by_image(train, 0.25, seed)[1]["row"]) != list(second["row"]) for seed in range(2, 6))


@pytest.mark.parametrize("folds", [2, 3, 8])
def test_every_row_is_held_out_in_one_fold_and_no_image_is_on_both_sides(image_folder, folds):
    train = prepare_datasets(arguments(image_folder))[0]["train"]
    rows = []
    for fold in range(folds):
        first, second = fold_of(train, folds, fold, seed=0)
        assert not set(first["image_key"]) & set(second["image_key"])
        assert sorted([*first["row"], *second["row"]]) == train["row"][:]
        rows += second["row"]
    assert sorted(rows) == train["row"][:]


def test_a_run_takes_the_fold_that_it_is_given(image_folder):
    held_out = [
        prepare_datasets(arguments(image_folder, folds=4, fold=fold), training)[0]["validation"]["row"][:]
        for fold, training in ((1, True), (1, False), (2, True))
    ]
    assert held_out[0] == held_out[1] and not set(held_out[0]) & set(held_out[2])


@pytest.mark.parametrize("seed", range(4))
def test_by_question_images_are_known_and_rewordings_stay_together(seed):
    train, held = split_dataset(Dataset.from_dict(ROWS), asking("question", split_seed=seed))
    assert len(held) > 0 and set(held["image_key"]) <= set(train["image_key"])
    assert not pairs_of(train, QUESTION) & pairs_of(held, QUESTION)


@pytest.mark.parametrize("seed", range(4))
def test_by_wording_what_is_held_out_is_trained_on_in_other_words_alone(seed):
    train, held = split_dataset(Dataset.from_dict(ROWS), asking("wording", split_seed=seed, validation_fraction=0.9))
    assert pairs_of(held, QUESTION) <= pairs_of(train, QUESTION)
    assert not pairs_of(held, WORDING) & pairs_of(train, WORDING)
    assert len(pairs_of(held, WORDING)) == 6  # one of each two


@pytest.mark.parametrize("way", ["question", "wording"])
def test_what_is_held_out_depends_on_the_seed_and_not_on_the_order_of_the_rows(way):
    rows = Dataset.from_dict(ROWS)
    shuffled = rows.select(range(17, -1, -1))
    found = [
        sorted(split_dataset(of, asking(way, split_seed=seed))[1]["row"]) for of in (rows, shuffled) for seed in (1, 2)
    ]
    assert found[0] == found[2] and found[1] == found[3] and found[0] != found[1]


@pytest.mark.parametrize("way, names, wholes", [("question", QUESTION, 9), ("wording", WORDING, 12)])
@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_by_question_and_wording_hold_each_out_once_and_never_all_of_a_whole(way, names, wholes, folds):
    seen = []
    for fold in range(folds):
        train, held = split_dataset(Dataset.from_dict(ROWS), asking(way, folds=folds, fold=fold))
        found = pairs_of(held, names)
        assert not found & pairs_of(train, names) and set(held["image_key"]) <= set(train["image_key"])
        if way == "wording":
            assert pairs_of(held, QUESTION) <= pairs_of(train, QUESTION)
        seen += found
    assert len(seen) == len(set(seen)) == wholes


@pytest.mark.parametrize(
    "way, fields, message",
    [
        ("wording", {}, "by wording needs at least 2 wordings of questions that are asked in other words too.*found 0"),
        ("question", {"folds": 9}, "by question needs at least 9 questions about images that have other.*found 4"),
        ("image", {"folds": 3}, "by image needs at least 3 different images, found 2; give other data, fewer --folds"),
        ("question", {"question_group_column": "of"}, "no column 'of'; there are image_key, question"),
    ],
)
def test_too_little_to_hold_out_is_refused(way, fields, message):
    rows = {"image_key": [*"aabb"], "question": ["where is it?", "what color?"] * 2}
    with pytest.raises(ValueError, match=message):
        split_dataset(Dataset.from_dict(rows), asking(way, **fields))


def test_a_run_refuses_ways_to_hold_out_that_it_cannot_follow(image_folder):
    with pytest.raises(ValueError, match="split_by must be image, question or wording, found 'words'"):
        arguments(image_folder, split_by="words")
    with pytest.raises(ValueError, match="--split_by wording cuts the training part itself: leave out --validation"):
        arguments(image_folder, split_by="wording", validation_file="other.jsonl")
    with pytest.raises(ValueError, match="by wording needs at least 2 wordings"):
        prepare_datasets(arguments(image_folder, split_by="wording", validation_fraction=0.2))
    with pytest.raises(ValueError, match="--question_group_column: the data have no column 'group'"):
        prepare_datasets(arguments(image_folder, question_group_column="group"))
    parts, *_ = prepare_datasets(arguments(image_folder, split_by="question", validation_fraction=0.2))
    assert set(parts["validation"]["image_key"]) < set(parts["train"]["image_key"])


def test_raw_rows_are_told_from_prepared_ones():
    raw = Dataset.from_dict({"image": ["a.png"], "question": ["what?"], "answer": ["red"]})
    with pytest.raises(
        ValueError, match="as prepare_dataset\\(rows\\) gives them, found raw ones .* image, question, answer"
    ):
        split_dataset(raw, arguments(Path(), split_by="question"))

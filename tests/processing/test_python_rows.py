"""Rows that a person has in Python are checked and read as those of files are."""

import io

import datasets
import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from processing import BadExampleError, DataArguments, StreamedRows, prepare_dataset, split_by_image
from processing.image_loading_dualvqa import load_image

COLORS = ["red", "green", "blue"]
MAPPING = {"Bild": "image", "Frage": "question", "Antwort": "answer"}


@pytest.fixture
def images():
    return [Image.effect_noise((30, 20 + n), 60).convert("RGB") for n in range(3)]


@pytest.fixture
def rows(images):
    return [
        {"image": image, "question": "what color is it?", "answer": color, "organ": n}
        for n, (image, color) in enumerate(zip(images, COLORS))
    ]


def pixels(rows):
    return [np.asarray(load_image(image)) for image in rows["image"]]


def encoded(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def same_rows(found, images):
    assert found["question"] == ["what color is it?"] * 3 and found["answer"][:] == COLORS
    assert all(np.array_equal(one, np.asarray(other)) for one, other in zip(pixels(found), images))
    assert len(set(found["image_key"])) == 3 and found["row"][:] == [0, 1, 2]


def test_a_list_a_table_and_a_dataset_give_the_same_rows(rows, images):
    features = datasets.Features(
        image=datasets.Image(), question=datasets.Value("string"), answer=datasets.Value("string")
    )
    columns = {name: [row[name] for row in rows] for name in ("image", "question", "answer")}
    for given in (rows, pandas.DataFrame(rows), datasets.Dataset.from_dict(columns, features)):
        same_rows(prepare_dataset(given), images)
    assert prepare_dataset(rows)["organ"][:] == [0, 1, 2]


@pytest.mark.parametrize("kind", [np.asarray, lambda i: torch.as_tensor(np.asarray(i).copy()), encoded, bytearray])
def test_images_may_be_arrays_tensors_and_bytes(rows, images, kind):
    for row in rows:
        row["image"] = kind(encoded(row["image"])) if kind is bytearray else kind(row["image"])
    same_rows(prepare_dataset(rows), images)


def test_columns_have_the_names_that_a_person_gave_them(rows, images):
    german = [{"Bild": row["image"], "Frage": row["question"], "Antwort": row["answer"]} for row in rows]
    same_rows(prepare_dataset(german, MAPPING), images)
    same_rows(prepare_dataset(german), images)  # usual names need no mapping
    odd = [{"a": row["image"], "b": row["question"], "c": row["answer"]} for row in rows]
    with pytest.raises(ValueError, match=r"no column 'image' \(it has a, b, c\).*column_mapping="):
        prepare_dataset(odd)


@pytest.mark.parametrize("mapping", [{"Bild": "picture"}, {"a": "image", "b": "image"}])
def test_a_mapping_to_something_else_is_refused(rows, mapping):
    with pytest.raises(ValueError, match="column_mapping maps a column of the data to each of image, question, answer"):
        prepare_dataset(rows, mapping)


def test_gaps_in_a_table_are_no_answers(rows):
    table = pandas.DataFrame(rows)
    table.loc[1, "answer"] = np.nan
    with pytest.raises(BadExampleError, match=r"the data, row 2 \(embedded image\): no answer"):
        prepare_dataset(table)
    assert "answer" not in prepare_dataset(table, needs_answers=False).column_names


def test_bad_rows_are_named_together_or_left_out(rows, caplog):
    rows[0]["image"], rows[2]["question"] = b"no image at all", " "
    with pytest.raises(BadExampleError, match=r"2 bad rows of 3:\n.*row 1 .*\n.*row 3 .*empty question"):
        prepare_dataset(rows)
    assert prepare_dataset(rows, data_args=DataArguments(on_bad_example="skip"))["row"][:] == [1]
    assert "left out: the data has 2 bad rows of 3:\n  row 1 (" in caplog.text and "empty question" in caplog.text


@pytest.mark.parametrize(
    "given, message",
    [
        (datasets.DatasetDict(train=datasets.Dataset.from_dict({"a": [1]})), "expected one part of a data set, found"),
        ([], "there are no rows"),
        ([1, 2], "a list with other things in it"),
        (7, "expected a Dataset, a list of dicts, a pandas DataFrame or the path of a file, found int"),
        ("gone.csv", "gone.csv"),
    ],
)
def test_what_is_no_data_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        prepare_dataset(given)


def test_a_stream_is_surveyed_once_and_read_epoch_by_epoch(rows):
    features = datasets.Features(
        image=datasets.Image(), question=datasets.Value("string"), answer=datasets.Value("string")
    )
    wanted = [{name: row[name] for name in features} for row in rows]
    stream = datasets.IterableDataset.from_generator(lambda: iter(wanted), features=features)
    found = prepare_dataset(stream)
    assert isinstance(found, StreamedRows) and len(found) == 3
    assert found.summary.answers == dict.fromkeys(COLORS, 1)
    assert sorted(row["answer"] for row in found) == sorted(COLORS)


def test_canonical_rows_stay_and_can_be_split(rows):
    found = prepare_dataset(rows)
    assert prepare_dataset(found) is found
    train, validation = split_by_image(found, 0.34, 0)
    assert len(train) == 2 and len(validation) == 1
    assert not set(train["image_key"]) & set(validation["image_key"])

import os
import shutil

import pytest
from helpers import data_arguments as arguments
from helpers import write_jsonl

from processing import BadExampleError, prepare_datasets


def refused(folder, **fields):
    with pytest.raises(BadExampleError) as caught:
        prepare_datasets(arguments(folder, **fields))
    return caught.value


def test_bad_rows_of_all_parts_are_told_at_once(image_folder):
    rows = [{"image": "0.png", "question": "q?", "answer": ""}, {"image": "0.png", "question": "q?", "answer": "red"}]
    paths = {f"{part}_file": write_jsonl(image_folder / f"{part}.jsonl", rows) for part in ("train", "validation")}
    (image_folder / "test.csv").write_text("image;question\n0.png;q?\n\n1.png;\n9.png;q?\n")
    error = refused(image_folder, **paths, test_file=str(image_folder / "test.csv"))
    assert [(row["part"], row["row"], row["place"]) for row in error.rows] == [
        ("train", 1, "line 1"),
        ("validation", 1, "line 1"),
        ("test", 4, "row 4"),
        ("test", 5, "row 5"),
    ]
    lines = str(error).splitlines()
    assert lines[0].endswith("train.jsonl, line 1 (" + str(image_folder / "0.png") + "): no answer")
    assert lines[2].endswith("test.csv has 2 bad rows of 3:") and "row 4" in lines[3]
    assert lines[-1].startswith("Mend them, or leave such rows out with --on_bad_example skip")


def test_images_that_are_missing_by_the_thousand_are_counted_and_the_first_ten_shown(image_folder):
    rows = [{"image": f"gone/{n}.png", "question": "q?", "answer": "red"} for n in range(3000)]
    error = refused(image_folder, train_file=write_jsonl(image_folder / "train.jsonl", rows))
    lines = str(error).splitlines()
    assert lines[0].endswith("train.jsonl has 3,000 bad rows of 3,000:") and len(lines) == 14
    assert lines[10].startswith("  line 10 (") and lines[11] == "  ..."
    assert (
        lines[12]
        == f"3,000 rows name 3,000 images that don't exist; relative paths start from --image_dir {image_folder}"
    )
    assert len(error.rows) == 3000


@pytest.mark.parametrize(
    "file, image_dir, hint",
    [
        ("photos/a.jsonl", None, "photos/0.png is one: give --image_dir photos"),
        ("photos/a.jsonl", "other", "photos/0.png is one: give --image_dir photos"),
        ("a.jsonl", None, "./photos/0.png is one: give --image_dir ./photos"),
        ("b.jsonl", "photos", "./photos/0.png is one: give --image_dir ."),
        ("c.jsonl", "photos", "relative paths start from --image_dir photos"),
    ],
)
def test_where_missing_images_are_is_said_if_they_are_near(image_folder, monkeypatch, file, image_dir, hint):
    monkeypatch.chdir(image_folder)
    os.mkdir("photos")
    shutil.move("0.png", "photos")
    for name, image in {
        "photos/a.jsonl": "0.png",
        "a.jsonl": "0.png",
        "b.jsonl": "photos/0.png",
        "c.jsonl": "nowhere.png",
    }.items():
        write_jsonl(image_folder / name, [{"image": image, "question": "q?", "answer": "red"}])
    assert f"1 row names an image that doesn't exist; {hint}" in str(
        refused(image_folder, train_file=file, image_dir=image_dir)
    )

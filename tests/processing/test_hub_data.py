import json
import logging
import shutil

import pytest
from datasets import Dataset
from helpers import write_jsonl

from processing import DataArguments, StreamedRows, prepare_datasets
from processing.hub_data import find_parts
from processing.rows import row_fields


def load(folder, **fields):
    """The parts and the raw ones of a folder in the layout of the Hub, which stands in for an id."""
    parts, raw, bad = prepare_datasets(
        DataArguments(**{"dataset_name": str(folder), "validation_fraction": 0, **fields})
    )
    assert not bad
    return parts, raw


@pytest.fixture
def hub(image_folder):
    (image_folder / "hub").mkdir()
    return image_folder / "hub"


def example(hub, answer, image=0, **own):
    return {"image": str(hub.parent / f"{image}.png"), "question": "q?", "answer": answer, **own}


@pytest.mark.parametrize(
    "answers, expected",
    [
        (["red", 2], ["red", "2"]),
        (["red", True], ["red", "true"]),
        (["red", ["blue", None]], [["red"], ["blue"]]),
        (["2020-01-01", "2021-05-05T11:30"], ["2020-01-01", "2021-05-05T11:30"]),
    ],
)
def test_answers_of_a_json_data_set_are_what_people_wrote(hub, answers, expected):
    write_jsonl(hub / "train.jsonl", [example(hub, answer) for answer in answers])
    assert list(load(hub)[0]["train"]["answer"]) == expected


def test_own_fields_of_a_json_data_set_come_back_to_the_byte(hub):
    fields = [{"id": 2**63, "date": "2020-01-01", "kind": "x", "size": 1.0}, {"id": 1, "kind": ["y"], "size": 2}]
    write_jsonl(hub / "train.jsonl", [example(hub, "red", **own) for own in fields])
    _, raw = load(hub)
    for found, own in zip(row_fields(raw["train"], [0, 1]), fields, strict=True):
        assert {name: found.get(name) for name in own} == {name: json.dumps(value) for name, value in own.items()}
        assert "date" in own or "date" not in found


def test_cells_of_a_csv_data_set_are_text_and_no_gaps(hub):
    rows = [("NA", "00123"), ("None", "1"), ("007", ""), ("True", "x")]
    lines = [f"{hub.parent}/{number}.png,q?,{answer},{code}" for number, (answer, code) in enumerate(rows)]
    (hub / "train.csv").write_text("\n".join(["image,question,answer,zip", *lines]))
    parts, _ = load(hub)
    assert list(parts["train"]["answer"]) == ["NA", "None", "007", "True"]
    assert list(parts["train"]["zip"]) == ["00123", "1", "", "x"]


def test_several_files_of_a_split_are_one_part_and_only_parts_are_read(hub):
    (hub / "data").mkdir()
    write_jsonl(hub / "data" / "train-00000-of-00002.jsonl", [example(hub, "red", a=1)])
    write_jsonl(hub / "data" / "train-00001-of-00002.jsonl", [example(hub, "blue", 1, b=2)])
    write_jsonl(hub / "data" / "dev-00000-of-00001.jsonl", [example(hub, "2020-01-01", 2)])
    parts, _ = load(hub)
    train = parts["train"]
    assert (list(train["answer"]), list(train["a"]), list(train["b"])) == (["red", "blue"], [1, None], [None, 2])
    assert list(parts["validation"]["answer"]) == ["2020-01-01"]


def test_bad_rows_of_a_later_file_are_found_in_their_place(hub):
    (hub / "data").mkdir()
    write_jsonl(hub / "data" / "train-00000-of-00002.jsonl", [example(hub, "red")] * 2)
    line = json.dumps(example(hub, "red")).replace('"q?"', '"q?", "question": "r?"')
    (hub / "data" / "train-00001-of-00002.jsonl").write_text(line)
    with pytest.raises(ValueError, match="train-00001-of-00002.jsonl, line 1 .*: the key 'question' comes twice"):
        load(hub)


def test_what_the_card_says_of_the_files_is_followed_and_what_is_guessed_is_said(hub, caplog):
    (hub / "train.csv").write_text(f"image;question;answer\n{hub.parent}/0.png;q?;red\n")
    (hub / "README.md").write_text('---\nconfigs:\n- config_name: default\n  data_files: train.csv\n  sep: ";"\n---\n')
    assert list(load(hub)[0]["train"]["answer"]) == ["red"]
    assert "read by the library datasets, which may guess the types" in caplog.text


def test_a_folder_with_a_card_gives_the_rows_that_it_has_now(hub):
    card = "---\nconfigs:\n- config_name: default\n  data_files: train.parquet\n---\n"
    (hub / "README.md").write_text(card)
    for answer in ("red", "blue"):
        Dataset.from_list([example(hub, answer)]).to_parquet(hub / "train.parquet")
        assert list(load(hub)[0]["train"]["answer"]) == [answer]


def test_classes_that_the_card_names_are_answers_by_their_names(hub):
    write_jsonl(hub / "train.jsonl", [example(hub, 1), example(hub, 0, 1)])
    names = "dtype:\n      class_label:\n        names:\n          '0': no\n          '1': yes"
    features = "".join(f"  - name: {name}\n    dtype: string\n" for name in ("image", "question"))
    info = f"dataset_info:\n  features:\n{features}  - name: answer\n    {names}\n"
    (hub / "README.md").write_text(f"---\n{info}---\n".replace(": no\n", ": 'no'\n").replace(": yes\n", ": 'yes'\n"))
    assert list(load(hub)[0]["train"]["answer"]) == ["yes", "no"]


def test_nothing_is_said_of_parquet_or_of_plain_json(hub, caplog):
    write_jsonl(hub / "train.jsonl", [example(hub, "red")])
    load(hub)
    (hub / "train.jsonl").unlink()
    Dataset.from_list([example(hub, "red")]).to_parquet(hub / "train.parquet")
    load(hub)
    assert "guess" not in caplog.text


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_tables_beside_images_are_read_as_files_are(hub, kind):
    (hub / "train").mkdir()
    answers = ["2020-01-01", "NA", "007"]
    for number in range(3):
        shutil.copy(hub.parent / f"{number}.png", hub / "train")
    rows = [{"file_name": f"{n}.png", "question": "q?", "answer": answer} for n, answer in enumerate(answers)]
    table = hub / "train" / f"metadata.{kind}"
    if kind == "csv":
        table.write_text("\n".join(",".join(values) for values in [rows[0], *map(dict.values, rows)]))
    else:
        write_jsonl(table, [*rows[:2], {**rows[2], "answer": 7, "own": 2**63}])
    parts, raw = load(hub)
    assert list(parts["train"]["answer"]) == [*answers[:2], "007" if kind == "csv" else "7"]
    assert [image["path"] for image in parts["train"]["image"]] == [str(hub / "train" / f"{n}.png") for n in range(3)]
    assert next(row_fields(raw["train"], [1]))["file_name"] == '"1.png"'


def test_a_table_beside_images_names_none_outside_its_folder(hub):
    shutil.copy(hub.parent / "0.png", hub)
    names = ["0.png", "../1.png", str(hub.parent / "2.png"), "a/../../1.png", None, 7]
    write_jsonl(hub / "metadata.jsonl", [{"file_name": n, "question": "q?", "answer": "red"} for n in names])
    args = DataArguments(dataset_name=str(hub), validation_fraction=0, on_bad_example="skip")
    parts, _, bad = prepare_datasets(args)
    assert len(parts["train"]) == 1 and [row["row"] for row in bad] == [2, 3, 4, 5, 6]
    assert "leaves the folder of metadata.jsonl" in bad[0]["problem"] and "no image" in bad[4]["problem"]


def test_only_parquet_is_streamed(hub):
    write_jsonl(hub / "train.jsonl", [example(hub, "red")])
    with pytest.raises(ValueError, match="--streaming reads Parquet files, and .*hub has JSON or CSV"):
        StreamedRows(DataArguments(dataset_name=str(hub), streaming=True))


@pytest.mark.parametrize(
    "splits, parts, said",
    [
        (["train", "val"], {"train": "train", "validation": "val"}, "its split val is the validation part"),
        (["train", "Dev"], {"train": "train", "validation": "Dev"}, "its split Dev is the validation part"),
        (["train", "dev", "val"], {"train": "train", "validation": "val"}, "the splits dev are not used"),
        (
            ["validation", "valid", "test"],
            {"validation": "validation", "test": "test"},
            "the splits valid are not used",
        ),
        (["train", "testdev", "extra"], {"train": "train"}, "the splits testdev, extra are not used; used are train"),
    ],
)
def test_splits_of_other_names_are_the_validation_part_or_named_as_unused(splits, parts, said, caplog):
    with caplog.at_level(logging.INFO):
        assert find_parts(splits, "somebody/vqa") == parts
    assert said in caplog.text


def test_splits_that_are_no_part_are_refused():
    with pytest.raises(ValueError, match="no split train, validation or test, found full"):
        find_parts(["full"], "somebody/vqa")


def test_a_data_set_that_can_not_be_loaded_is_named(tmp_path):
    (tmp_path / "train.parquet").write_text("no table")
    with pytest.raises(ValueError, match=f"--dataset_name {tmp_path} can't be loaded: "):
        prepare_datasets(DataArguments(dataset_name=str(tmp_path)))

import io
import json
import os
import random

import datasets
import numpy
import pandas
import pytest
from datasets import ClassLabel, Dataset, Features, Image
from helpers import data_arguments as arguments
from helpers import write_jsonl
from PIL import Image as PILImage

from processing import BadExampleError, DataArguments, StreamedRows, VQACollator, prepare_datasets
from processing.datasets import image_key, image_name, load_easy_vqa, prepare_part


def rows_of(folder):
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def test_canonical_columns_and_the_sources_own(image_folder):
    parts, raw, bad = prepare_datasets(arguments(image_folder))
    train = parts["train"]
    added = {"image_key", "row", "row_place"}
    assert not bad and set(train.column_names) == {"image", "question", "answer", "qid"} | added
    assert train[0]["question"] == "what color is it?" and train[0]["answer"] == "red" and train[2]["qid"] == 2
    assert train["row"][:3] == [0, 1, 2] and raw["train"][0]["image"] == "0.png"
    assert len(set(train["image_key"])) == 8 and train["image_key"][0] == train["image_key"][1]


@pytest.mark.parametrize("kind", ["json", "csv", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(image_folder, kind):
    frame = pandas.DataFrame(rows_of(image_folder))
    path = image_folder / f"train.{kind}"
    {"json": lambda p: frame.to_json(p, orient="records"), "csv": lambda p: frame.to_csv(p, index=False)}.get(
        kind, frame.to_parquet
    )(path)
    expected = prepare_datasets(arguments(image_folder))[0]["train"]
    found = prepare_datasets(arguments(image_folder, train_file=str(path)))[0]["train"]
    for column in ("image", "question", "answer", "image_key"):
        assert list(found[column]) == list(expected[column])


def test_csv_answers_that_look_like_missing_values_are_answers(image_folder):
    (image_folder / "train.csv").write_text("image,question,answer\n0.png,what is wrong?,None\n1.png,which part?,NA\n")
    train = prepare_datasets(arguments(image_folder, train_file=str(image_folder / "train.csv")))[0]["train"]
    assert list(train["answer"]) == ["None", "NA"]


def test_answers_of_mixed_types_become_text(image_folder):
    rows = rows_of(image_folder)
    rows[0]["answer"], rows[1]["answer"] = 3, ["yes", "yes", "no"]
    write_jsonl(image_folder / "mixed.jsonl", rows[:1] + rows[2:])
    write_jsonl(image_folder / "lists.jsonl", [{**row, "answer": [row["answer"], "Yes"]} for row in rows[2:]])
    mixed = prepare_datasets(arguments(image_folder, train_file=str(image_folder / "mixed.jsonl")))[0]["train"]
    lists = prepare_datasets(arguments(image_folder, train_file=str(image_folder / "lists.jsonl")))[0]["train"]
    assert mixed["answer"][0] == "3"
    assert lists["answer"][0] == ["green", "Yes"]


def test_columns_can_be_named(image_folder):
    renamed = [{"view": r["image"], "ask": r["question"], "said": r["answer"]} for r in rows_of(image_folder)]
    path = write_jsonl(image_folder / "renamed.jsonl", renamed)
    args = arguments(image_folder, train_file=path, image_column="view", question_column="ask", answer_column="said")
    assert len(prepare_datasets(args)[0]["train"]) == 16
    with pytest.raises(ValueError, match="no column 'image' \\(it has view, ask, said\\).*--image_column"):
        prepare_datasets(arguments(image_folder, train_file=path))


def test_embedded_images_work_as_files_do(image_folder):
    paths = [str(image_folder / f"{number}.png") for number in range(4)]
    dataset = Dataset.from_dict({"image": paths, "question": ["is it red?"] * 4, "answer": ["yes"] * 4})
    embedded = dataset.cast_column("image", Image())
    from_files, _ = prepare_part(dataset, "train", DataArguments(dataset_name="x"))
    from_bytes, _ = prepare_part(embedded, "train", DataArguments(dataset_name="x"))
    assert list(from_bytes["image_key"]) == list(from_files["image_key"])


def test_rows_can_be_excluded(image_folder):
    train = prepare_datasets(arguments(image_folder, exclude_rows=["qid=-1"]))[0]["train"]
    assert len(train) == 8 and set(train["question"]) == {"what color is it?"}


def test_no_row_of_a_test_part_is_excluded(image_folder):
    args = arguments(image_folder, test_file=str(image_folder / "train.jsonl"), exclude_rows=["qid=-1"])
    parts = prepare_datasets(args)[0]
    assert (len(parts["train"]), len(parts["test"])) == (8, 16)


def test_a_row_with_a_key_twice_is_a_bad_row(image_folder):
    lines = (image_folder / "train.jsonl").read_text().splitlines()
    lines[3] = lines[3].replace('"answer": ', '"answer": "blue", "answer": ')
    (image_folder / "train.jsonl").write_text("\n".join(lines))
    with pytest.raises(BadExampleError, match="line 4 .*: the key 'answer' comes twice in one object"):
        prepare_datasets(arguments(image_folder))
    parts, _, bad = prepare_datasets(arguments(image_folder, on_bad_example="skip"))
    assert len(parts["train"]) == 15 and [row["row"] for row in bad] == [4]
    lines[3] = '{"qid": -1, ' + lines[3][1:]
    (image_folder / "train.jsonl").write_text("\n".join(lines))
    assert len(prepare_datasets(arguments(image_folder, on_bad_example="skip"))[0]["train"]) == 15


def test_names_of_images_can_always_be_written():
    assert image_name("\ud800.png") == image_name({"path": "\ud800.png"}) == "\\ud800.png"


def spoil(folder, **fields):
    rows = rows_of(folder)
    rows[4].update(fields)
    write_jsonl(folder / "train.jsonl", rows)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"image": "gone.png"}, r"train.jsonl, line 5 \(.*gone.png\): unreadable image"),
        ({"image": "broken.png"}, r"line 5 \(.*broken.png\): unreadable image"),
        ({"question": "  "}, "line 5 .*: empty question"),
        ({"answer": None}, "line 5 .*: no answer"),
        ({"answer": ""}, "line 5 .*: no answer"),
    ],
)
def test_a_bad_row_stops_or_is_left_out(image_folder, fields, message):
    content = (image_folder / "0.png").read_bytes()
    (image_folder / "broken.png").write_bytes(content[: len(content) // 2])
    spoil(image_folder, **fields)
    with pytest.raises(BadExampleError, match=message):
        prepare_datasets(arguments(image_folder))
    parts, _, bad = prepare_datasets(arguments(image_folder, on_bad_example="skip"))
    assert len(parts["train"]) == 15 and 4 not in list(parts["train"]["row"])
    assert [(item["part"], item["row"]) for item in bad] == [("train", 5)]


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "has no rows"),
        (
            '{"image": "0.png", "question": "q", "answer": "a"}\n{"image": \n',
            "train.jsonl, line 2 .*: it is not valid JSON",
        ),
    ],
)
def test_files_that_can_not_be_read_are_named(image_folder, content, message):
    (image_folder / "train.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message):
        prepare_datasets(arguments(image_folder))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"train_file": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
        ({"train_file": "table.pdf"}, "expected a file ending in .csv"),
        ({"train_file": None}, "no data: give --train_file"),
        ({"exclude_rows": ["qid"]}, "exclude_rows expects column=value"),
        ({"on_bad_example": "ignore"}, "must be error or skip"),
        ({"exclude_rows": ["question=is it red?", "question=what color is it?"]}, "has no rows left"),
        ({"fold": 1}, "--fold 1 needs --folds"),
        ({"folds": 1}, "folds must be at least 2 and fold from 0 to folds - 1, found folds 1 and fold 0"),
        ({"folds": 4, "fold": 4}, "found folds 4 and fold 4"),
        ({"folds": 9}, "at least 9 different images, found 8"),
        ({"folds": 2, "validation_file": "some.jsonl"}, "leave out --validation_file"),
    ],
)
def test_arguments_that_do_not_fit_are_named(image_folder, fields, message):
    with pytest.raises(ValueError, match=message):
        prepare_datasets(arguments(image_folder, **fields))


def test_test_rows_need_no_answers(image_folder):
    rows = [{key: row[key] for key in ("image", "question")} for row in rows_of(image_folder)]
    path = write_jsonl(image_folder / "test.jsonl", rows)
    parts, _, _ = prepare_datasets(arguments(image_folder, test_file=path))
    assert "answer" not in parts["test"].column_names and len(parts["test"]) == 16


def test_easy_vqa_has_its_official_parts():
    parts = load_easy_vqa()
    assert (len(parts["train"]), len(parts["test"])) == (38_575, 9_673)
    assert parts["train"][0]["question"] == "what is the blue shape?" and parts["train"][0]["answer"] == "rectangle"


def test_a_data_set_with_embedded_images_is_loaded_by_name(image_folder):
    """A folder in the layout of the Hub stands in for an id."""
    rows = rows_of(image_folder)
    images = [{"bytes": (image_folder / row["image"]).read_bytes(), "path": row["image"]} for row in rows]
    for part, chosen in {"train": slice(0, 12), "test": slice(12, 16)}.items():
        columns = {"image": images, "question": [r["question"] for r in rows], "answer": [r["answer"] for r in rows]}
        dataset = Dataset.from_dict({name: values[chosen] for name, values in columns.items()})
        (image_folder / "hub" / "data").mkdir(parents=True, exist_ok=True)
        dataset.cast_column("image", Image()).to_parquet(image_folder / "hub" / "data" / f"{part}-0.parquet")
    parts, _, _ = prepare_datasets(DataArguments(dataset_name=str(image_folder / "hub"), validation_fraction=0.25))
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 8, "validation": 4, "test": 4}
    file = str(image_folder / "hub" / "data" / "train-0.parquet")
    from_file, _, _ = prepare_datasets(DataArguments(train_file=file, validation_fraction=0.25))
    assert list(from_file["train"]["image_key"]) == list(parts["train"]["image_key"])
    assert parts["train"][0]["image"]["bytes"] and list(parts["test"]["answer"])[-1] == rows[-1]["answer"]


def test_a_missing_embedded_image_and_a_missing_answer_are_one_bad_row_each(image_folder):
    content = [(image_folder / f"{number}.png").read_bytes() for number in range(4)]
    columns = {"question": ["q?"] * 4, "answer": pandas.array([1, 2, None, 4], "Int64")}
    for images in ([*content[:3], None], [*({"bytes": c, "path": None} for c in content[:3]), None]):
        pandas.DataFrame({"image": images, **columns}).to_parquet(image_folder / "train.parquet")
        file = str(image_folder / "train.parquet")
        with pytest.raises(BadExampleError, match="row 3 .*: no answer\n  row 4 .*: no image"):
            prepare_datasets(arguments(image_folder, train_file=file))
        parts, _, bad = prepare_datasets(arguments(image_folder, train_file=file, on_bad_example="skip"))
        assert list(parts["train"]["answer"]) == ["1", "2"] and [row["row"] for row in bad] == [3, 4]


def test_classes_are_answers_and_questions_by_their_names(image_folder, monkeypatch):
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.05)
    columns = {"image": [str(image_folder / "0.png")] * 3, "question": [0, 0, 1], "answer": [1, 0, 2]}
    names = {"question": ["is it red?", "what is it?"], "answer": ["no", "yes", "red"]}
    features = {"image": Image(), **{name: ClassLabel(names=found) for name, found in names.items()}}
    (image_folder / "hub").mkdir()
    file = str(image_folder / "hub" / "train-0.parquet")
    Dataset.from_dict(columns, features=Features(features)).to_parquet(file)
    for source in ({"train_file": file}, {"train_file": None, "dataset_name": str(image_folder / "hub")}):
        train = prepare_datasets(arguments(image_folder, **source))[0]["train"]
        assert list(train["answer"]) == ["yes", "no", "red"]
        assert list(train["question"]) == ["is it red?", "is it red?", "what is it?"]
    rows = StreamedRows(DataArguments(train_file=file, streaming=True))
    assert rows.summary.answers == {"yes": 1, "no": 1, "red": 1} and len(rows.summary.questions) == 2
    assert {row["answer"] for row in rows} == {"yes", "no", "red"}


def test_without_training_the_validation_part_is_what_training_would_have_held_out(image_folder):
    """So a saved model is evaluated, alone or with others, on images that it wasn't trained on."""
    args = DataArguments(train_file=str(image_folder / "train.jsonl"), image_dir=str(image_folder))
    trained, *_ = prepare_datasets(args)
    parts, raw, _ = prepare_datasets(args, needs_training=False)
    assert set(parts) == {"validation"} and parts["validation"]["row"] == trained["validation"]["row"]
    assert raw["validation"][0]["qid"] == 0
    args.test_file = args.train_file
    assert set(prepare_datasets(args, needs_training=False)[0]) == {"test"}
    kept = prepare_datasets(args, needs_training=False, keeps_training=True)[0]
    assert set(kept) == {"train", "test"} and len(kept["train"]) == 16  # to compare with, and nothing held out


def odd_files(folder):
    """Files that are no images a run can use, each in a way of its own, and words of what is said about them."""
    os.mkfifo(folder / "pipe.png")
    os.mkdir(folder / "folder.png")
    (folder / "zeros.png").symlink_to("/dev/zero")
    (folder / "empty.png").touch()
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:60])
    PILImage.new("L", (64, 64)).save(folder / "page.eps")
    PILImage.new("L", (8000, 7000)).save(folder / "large.png")
    PILImage.fromarray(numpy.full((8, 8), numpy.nan, numpy.float32)).save(folder / "nan.tiff")
    with open(folder / "sparse.png", "wb") as file:
        file.truncate(2**40)
    return {
        "pipe.png": "expected a file, found a pipe",
        "folder.png": "expected a file, found a folder",
        "zeros.png": "expected a file, found a device",
        "empty.png": "no image, or of a format",
        "cut.png": "",
        "page.eps": "no image, or of a format",
        "large.png": "8000 x 7000 pixels, and the limit max_pixels is 50,000,000",
        "nan.tiff": "finite pixels, found nan",
        "sparse.png": "it has 1099511627776 bytes",
        "gone.png": "No such file",
    }


def test_the_check_of_all_rows_finds_every_image_that_the_run_could_not_use(image_folder, processor):
    odd = odd_files(image_folder)
    rows = [{"image": name, "question": "is it red?", "answer": "no"} for name in odd]
    path = write_jsonl(image_folder / "odd.jsonl", [*rows_of(image_folder), *rows])
    with pytest.raises(
        BadExampleError, match=r"odd.jsonl has 10 bad rows of 26:\n  line 17 \(.*pipe.png\): .*found a pipe"
    ):
        prepare_datasets(arguments(image_folder, train_file=path))
    parts, _, bad = prepare_datasets(arguments(image_folder, train_file=path, on_bad_example="skip"))
    assert [row["row"] for row in bad] == list(range(17, 17 + len(odd)))
    for row, (name, problem) in zip(bad, odd.items()):
        assert row["image"].endswith(name) and problem in row["problem"], row
    assert len(parts["train"]) == 16
    assert VQACollator(processor)(list(parts["train"]))["pixel_values"].shape[0] == 8


def test_larger_images_may_be_allowed(image_folder):
    PILImage.new("L", (1001, 1000)).save(image_folder / "0.png")
    limits = {"max_image_megapixels": 1.0}
    with pytest.raises(BadExampleError, match="1001 x 1000 pixels, and the limit max_pixels is 1,000,000"):
        prepare_datasets(arguments(image_folder, **limits))
    assert len(prepare_datasets(arguments(image_folder, max_image_megapixels=1.001))[0]["train"]) == 16
    with pytest.raises(ValueError, match="max_image_megapixels must be above 0, found nan"):
        arguments(image_folder, max_image_megapixels=float("nan"))


def test_an_image_passes_the_check_exactly_when_a_batch_can_be_made_of_it(processor):
    choose, collator = random.Random(0), VQACollator(processor)
    image = PILImage.effect_noise((20, 12), 90)
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
        file = io.BytesIO()
        image.save(file, kind)
        outcomes = []
        for _ in range(30):
            broken = bytearray(file.getvalue())
            for _ in range(choose.randint(1, 6)):
                broken[choose.randrange(len(broken))] = choose.randrange(256)
            row = {"bytes": bytes(broken), "path": None}
            outcomes.append(isinstance(image_key(row), str))
            try:
                assert collator.decode([row]).shape == (1, 3, 32, 32) and outcomes[-1]
            except ValueError:
                assert not outcomes[-1]
        assert any(outcomes)

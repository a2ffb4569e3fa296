"""predict on data sets of the Hub: a folder laid out as one stands in for an id."""

import json
import shutil

import pytest
from datasets import Dataset, Features, Image, Value
from helpers import write_jsonl

from dualvqa import merge_predictions, predict
from dualvqa.cli import main
from modeling_dualvqa import DualVQAPipeline
from processing import DataArguments
from processing.hub_rows import HubRows, is_hub, open_hub

ROWS = [{"question": ("is it red?", "what color is it?")[n % 2], "n": n} for n in range(11)]


@pytest.fixture(scope="module")
def pipe(tiny_model, new_processor):
    return DualVQAPipeline(tiny_model(), new_processor())


def lines(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]


@pytest.fixture
def pictures(image_folder):
    """A folder of images beside a table, as `datasets` lays it out."""
    for split in ("train", "test"):
        (image_folder / f"hub/{split}").mkdir(parents=True)
        rows = [{"file_name": f"{n % 8}.png", **row} for n, row in enumerate(ROWS)]
        write_jsonl(image_folder / f"hub/{split}/metadata.jsonl", rows if split == "test" else rows[:3])
        for number in range(8):
            shutil.copy(image_folder / f"{number}.png", image_folder / f"hub/{split}")
    return image_folder / "hub"


@pytest.fixture
def expected(pipe, image_folder, tmp_path):
    """The answers to the same rows of a file."""
    file = write_jsonl(image_folder / "rows.jsonl", [{"image": f"{n % 8}.png", **row} for n, row in enumerate(ROWS)])
    predict(pipe, file, tmp_path / "expected.jsonl", DataArguments(image_dir=str(image_folder)), batch_size=4)
    return [(line["n"], line["answer"], line["score"]) for line in lines(tmp_path / "expected.jsonl")]


def told(path):
    return [(line["n"], line["answer"], line["score"]) for line in lines(path)]


@pytest.mark.slow
def test_a_folder_of_images_is_streamed_its_test_part_unless_said_otherwise(pipe, pictures, expected, tmp_path):
    assert isinstance(open_hub(pictures, DataArguments()), HubRows)
    assert predict(pipe, pictures, tmp_path / "all.jsonl", batch_size=4)["rows"] == 11
    assert told(tmp_path / "all.jsonl") == expected
    assert predict(pipe, pictures, tmp_path / "few.jsonl", split="train", batch_size=4)["rows"] == 3
    for number in (1, 2, 3):
        predict(pipe, pictures, tmp_path / "out.jsonl", shard=f"{number}/3", batch_size=4)
    assert merge_predictions(tmp_path / "out.jsonl") == 11
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "all.jsonl").read_bytes()


@pytest.mark.slow
def test_it_goes_on_where_it_stopped_and_only_with_the_same_files(pipe, pictures, expected, tmp_path, monkeypatch):
    postprocess, count = DualVQAPipeline.postprocess, []

    def stopping(self, *args, **kwargs):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return postprocess(self, *args, **kwargs)

    monkeypatch.setattr(DualVQAPipeline, "postprocess", stopping)
    with pytest.raises(KeyboardInterrupt):
        predict(pipe, pictures, tmp_path / "out.jsonl", batch_size=4)
    assert predict(pipe, pictures, tmp_path / "out.jsonl", batch_size=4)["answered"] == 3
    assert told(tmp_path / "out.jsonl") == expected
    shutil.copy(pictures / "test/1.png", pictures / "test/0.png")
    with pytest.raises(ValueError, match="begun with other data"):
        predict(pipe, pictures, tmp_path / "out.jsonl", batch_size=4)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_files_of_a_folder_are_read_as_by_themselves(pipe, image_folder, expected, tmp_path, kind):
    hub = image_folder / "hub"
    hub.mkdir()
    rows = [{"image": str(image_folder / f"{n % 8}.png"), **row} for n, row in enumerate(ROWS)]
    for number, part in enumerate((rows[:6], rows[6:])):
        name = hub / f"test-0000{number}-of-00002.{kind}"
        if kind == "jsonl":
            write_jsonl(name, part)
        else:
            features = Features({"image": Image(), "question": Value("string"), "n": Value("int64")})
            Dataset.from_list(part, features=features).to_parquet(name)
    assert [file.count() for file in open_hub(hub, DataArguments()).files] == [6, 5]
    predict(pipe, hub, tmp_path / "out.jsonl", batch_size=4)
    assert told(tmp_path / "out.jsonl") == expected


def test_what_is_no_data_set_and_no_split_of_it_is_told(pipe, pictures, image_folder, tmp_path):
    with pytest.raises(ValueError, match="has the splits .*: give one of them with split, found dev"):
        predict(pipe, pictures, tmp_path / "out.jsonl", split="dev")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty is no file, and no data set that can be reached"):
        predict(pipe, tmp_path / "empty", tmp_path / "out.jsonl")
    with pytest.raises(ValueError, match="split='test' is for a data set of the Hub or a folder"):
        predict(pipe, image_folder / "train.jsonl", tmp_path / "out.jsonl", split="test")
    assert is_hub("owner/name") and not is_hub("owner/name.csv") and not is_hub(f"{tmp_path}/name")
    for data in ("nowhere.jsonl", f"{tmp_path}/nowhere", "owner/name.csv", "./name"):
        (tmp_path / "onnx.json").write_text("{}")
        with pytest.raises(SystemExit, match="expected a file of questions, found .*: no such file"):
            main(["predict", str(tmp_path), data, "--output", str(tmp_path / "out.jsonl")])

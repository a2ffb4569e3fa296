import io
import json
import tarfile

import pytest
from helpers import data_arguments

from processing import DataArguments, prepare_datasets
from processing.files import read_file
from processing.row_streams import open_rows
from processing.rows import row_fields


def archive(path, image_folder, rows):
    """A WebDataset of two images, with the further files of each row by their endings."""
    with tarfile.open(path, "w") as file:
        for number, row in enumerate(rows):
            content = {"png": (image_folder / f"{number}.png").read_bytes()}
            for ending, value in {**content, **{name: text.encode() for name, text in row.items()}}.items():
                found = tarfile.TarInfo(f"{number:04}.{ending}")
                found.size = len(value)
                file.addfile(found, io.BytesIO(value))
    return str(path)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize(
    "row",
    [
        {"json": json.dumps({"question": "is it red?", "answer": "yes", "organ": {"name": "lung"}})},
        {"question.txt": "is it red?", "answer.txt": "yes"},
    ],
)
def test_files_of_one_name_are_a_row(image_folder, tmp_path, row, as_file):
    (tmp_path / "set").mkdir()
    path = archive(tmp_path / "set" / "train-000.tar", image_folder, [row, row])
    args = DataArguments(train_file=path) if as_file else DataArguments(dataset_name=str(tmp_path / "set"))
    args.validation_fraction = 0
    train = prepare_datasets(args)[0]["train"]
    assert train["question"][:] == ["is it red?"] * 2 and train["answer"][:] == ["yes"] * 2
    expected = prepare_datasets(data_arguments(image_folder))[0]["train"]
    assert train["image_key"][:] == [expected["image_key"][0], expected["image_key"][2]]
    assert "json" not in row or train["organ.name"][0] == "lung"


def test_an_archive_is_read_a_few_rows_at_a_time_as_it_is_whole(image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("processing.row_streams.PIECE", 2)
    rows = [{"json": json.dumps({"question": f"is it {n}?", "organ": {"name": "lung"}})} for n in range(5)]
    path = archive(tmp_path / "a.tar", image_folder, rows)
    stream, whole = open_rows(path, DataArguments()), read_file(path)
    assert stream.count() == len(whole) == 5 and stream.column_names == whole.column_names
    pieces = list(stream.pieces(1))
    assert [piece.first for piece in pieces] == [1, 3]
    found = [row for piece in pieces for row in row_fields(piece.rows, range(len(piece.rows)))]
    assert found == list(row_fields(whole, range(1, 5)))


def test_an_archive_that_is_none_is_named(tmp_path):
    (tmp_path / "a.tar").write_text("no archive at all")
    with pytest.raises(ValueError, match="a.tar can't be read as a WebDataset"):
        read_file(str(tmp_path / "a.tar"))

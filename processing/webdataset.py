"""WebDataset: tar archives whose files of one name are a row, read by the library datasets."""

import contextlib
import re
import tarfile

import pyarrow
from datasets import Image, load_dataset
from datasets.exceptions import DatasetsError

KIND = re.compile(r"^json\.|\.(txt|text|cls)$")  # of a field of NAME.json, or of a file NAME.answer.txt


def read_archive(path):
    """The rows of one archive, as a Dataset.

    Raises:
        ValueError: it is no WebDataset.
    """
    with unreadable_archive(path):
        return with_column_names(load_dataset("webdataset", data_files=path, split="train"))


@contextlib.contextmanager
def unreadable_archive(path):
    """What goes wrong with an archive, as an error of ours."""
    try:
        yield
    except (OSError, ValueError, tarfile.TarError, DatasetsError, pyarrow.ArrowException) as error:
        cause = error.__cause__ or error
        raise ValueError(f"{path} can't be read as a WebDataset: {cause}") from error


def with_column_names(rows):
    """Rows of archives with the names that their fields have for people.

    The fields of NAME.json are columns, NAME.answer.txt is the column answer, and the only image of a row, whatever its
    format is, the column image.
    """
    rows = rows.flatten()
    names = {name: KIND.sub("", name) for name in rows.column_names}
    images = [name for name, feature in rows.features.items() if isinstance(feature, Image)]
    if len(images) == 1:  # and not what its fields may say of it
        names = {name: name if new == "image" else new for name, new in names.items()} | {images[0]: "image"}
    taken = list(names.values())
    return rows.rename_columns({name: new for name, new in names.items() if new != name and taken.count(new) == 1})

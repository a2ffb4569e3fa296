"""The key of an image: a hash of its content, by which what was computed of it is found again."""

import hashlib
from dataclasses import dataclass

from .image_loading_dualvqa import embedded
from .image_sources_dualvqa import CHECKED, name_of

KEY_DIGITS = 16  # hexadecimal


def content_key(content):
    """The key of an image with these bytes."""
    return hashlib.sha256(content).hexdigest()[:KEY_DIGITS]


def unchanged(row):
    """A canonical row that holds the content of its image, which is the content that its key is of.

    Raises:
        ValueError: the file is no longer the one that was checked.
    """
    content = CHECKED.read(embedded(row["image"]))
    if content_key(content) != row["image_key"]:
        raise ValueError(
            f"the image {name_of(row['image'].get('path') or content)} has changed since it was checked; start again, "
            f"and let nothing write into the images' folder meanwhile"
        )
    return {**row, "image": {"bytes": content, "path": None}}


@dataclass
class UnchangedRows:
    """A collator of rows whose images are those that were checked: for what is kept under their keys."""

    collator: object

    def __call__(self, rows):
        return self.collator(list(map(unchanged, rows)))

"""Rows that can't be used: how they are told, all of them at once."""

from typing import NamedTuple

from .image_sources_dualvqa import printable

SHOWN = 10
ADVICE = "or leave such rows out with --on_bad_example skip, in Python with DataArguments(on_bad_example='skip')"


class BadRows(NamedTuple):
    """The bad rows of one part.

    Attributes:
        source: what messages call the part.
        rows: for each a dict with its `part`, `row` (the number that the program shows which the file is opened with),
            `place` (that number in words, with the file where the part has several), `image` and `problem`.
        total: how many rows were read.
        hints: further lines, of what may be the matter with many of them.
    """

    source: str
    rows: list
    total: int
    hints: list = []

    def lines(self):
        """How many they are, and the first few of them, a line each."""
        lines = [f"{row['place']} ({row['image']}): {row['problem']}" for row in self.rows[:SHOWN]]
        if len(self.rows) == 1:
            return [f"{self.source}, {lines[0]}", *self.hints]
        more = ["  ..."] if len(self.rows) > SHOWN else []
        head = f"{self.source} has {len(self.rows):,} bad rows of {self.total:,}:"
        return [head, *(f"  {line}" for line in lines), *more, *self.hints]


class BadExampleError(ValueError):
    """Rows that can't be used, named by their place and image.

    Attributes:
        parts: the [`BadRows`] of each part; the message has the first few of them.
    """

    def __init__(self, message, parts=()):
        super().__init__(message)
        self.parts = list(parts)

    @property
    def rows(self):
        """All of them, see [`BadRows`]."""
        return [row for part in self.parts for row in part.rows]

    @classmethod
    def of(cls, parts):
        """The error about the bad rows of all parts."""
        rows, lines = [row for part in parts for row in part.rows], [line for part in parts for line in part.lines()]
        if len(rows) == 1:
            lines[0] += f". Mend it, {ADVICE}: they are listed then"
        else:
            lines.append(f"Mend them, {ADVICE}: they are listed then")
        return cls("\n".join(lines), parts)


def image_name(image):
    """An image in words: where it is."""
    if image is None:
        return "no image"
    return printable(image if isinstance(image, str) else image.get("path") or "embedded image")

"""Where a person finds a row: its number in the program that shows the file."""

import bisect
import itertools


class Places:
    """Where the program that a person opens a file with shows each row of it.

    Args:
        numbers: those of the rows there, from 1.
        unit: what they are numbers of: "line" of a text, "row" of a table.
        lines: of the rows of a table that is a text, the numbers of their lines: another where cells have line breaks.
    """

    def __init__(self, numbers, unit="row", lines=None):
        self.numbers, self.unit, self.lines = numbers, unit, numbers if lines is None else lines

    def number(self, row):
        return self.numbers[row]

    def name(self, row):
        number, line = self.numbers[row], self.lines[row]
        return f"{self.unit} {number}" + (f" (line {line} of the text)" if line != number else "")


class JoinedPlaces:
    """The places of the rows of several files.

    Args:
        files: (name, places, number of rows) of each file, in the order of the rows.
    """

    def __init__(self, files):
        self.files = files
        self.starts = list(itertools.accumulate((rows for *_, rows in files[:-1]), initial=0))

    def find(self, row):
        """The file of a row, and its number among that file's."""
        place = bisect.bisect_right(self.starts, row) - 1
        return self.files[place], row - self.starts[place]

    def number(self, row):
        (_, places, _), row = self.find(row)
        return places.number(row)

    def name(self, row):
        (name, places, _), row = self.find(row)
        return f"{name}, {places.name(row)}"


class LaterPlaces:
    """The places of rows from one of a source on.

    Args:
        places: of all its rows.
        start: number of the first, from 0.
    """

    def __init__(self, places, start):
        self.places, self.start = places, start

    def number(self, row):
        return self.places.number(self.start + row)

    def name(self, row):
        return self.places.name(self.start + row)


def counted(rows):
    """The [`Places`] of rows that are counted from 1."""
    return Places(range(1, rows + 1))

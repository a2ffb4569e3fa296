"""Tables that are texts: CSV and TSV, with whatever separator and encoding."""

import contextlib
import csv
import io
import itertools
import json
import logging
import math
import re
from array import array
from collections import Counter
from typing import NamedTuple

from .encodings import decode
from .places import Places
from .rows import JsonRows

logger = logging.getLogger(__name__)

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}  # the usual ones, and their names
SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n")  # the first line of some files, by which spreadsheets read them
WRITER = json.JSONEncoder(ensure_ascii=False)  # made once and not for each row
LOOKED_AT = 500  # rows from which a separator is told, and a title
SAMPLE = 2**16  # characters that the Sniffer looks at
WHOLE, DECIMALS = re.compile(r"\s*-?\d+\s*"), re.compile(r"\d+\s*")  # the cells that 1,5 becomes


def check_separator(separator):
    """The character that a flag means: itself, or by its name.

    Raises:
        ValueError: it is no single character, or one that can't separate cells.
    """
    found = {"\\t": "\t", **{name: sign for sign, name in SEPARATORS.items()}}.get(separator, separator)
    if len(found) != 1 or found in '"\r\n' or found.isalnum():
        raise ValueError(
            f"csv_separator must be one character that is neither letter, number nor quote, or one of "
            f"{', '.join(SEPARATORS.values())}; found {separator!r}"
        )
    return found


def read_table(path, content, args):
    """The rows of a table, all text: "none" and "NA" are answers. An empty cell is an empty text.

    Args:
        content: of the file, bytes.
        args: `DataArguments`, whose `csv_separator` and `csv_encoding` are found out where they are None.

    Raises:
        ValueError: separator or encoding can't be told, or quotes that are never closed.
    """
    text, encoding = decode(path, content, args.csv_encoding)
    with long_cells():
        form = table_form(path, text, args.csv_separator)
        rows = form.rows(form.below(path, text[form.start :]))
    form.tell(path, encoding)
    return rows


def find_separator(path, text):
    """The separator by which every row has as many cells as there are names; where none fits all rows, that of
    `csv.Sniffer` among those that part the names.

    Raises:
        ValueError: several could be it.
    """
    widths = {sign: widths_of(path, text, sign) for sign in SEPARATORS}
    parting = [sign for sign, found in widths.items() if found and found[0] > 1]
    fitting = [sign for sign in parting if len(set(widths[sign])) == 1]
    found = fitting or parting
    if len(found) > 1 and not fitting:
        try:
            return csv.Sniffer().sniff(text[:SAMPLE], "".join(found)).delimiter
        except csv.Error:
            pass
    if len(found) > 1:
        names = [SEPARATORS[sign] for sign in found]
        raise ValueError(
            f"{path}: the {' and the '.join(names)} could each be what separates its cells; give the right one, such "
            f"as --csv_separator {names[0]}"
        )
    below_title = [sign for sign, found in widths.items() if found and mostly_several(found[1:])]
    return [*found, *below_title, ","][0]  # the last for a single column


def mostly_several(widths):
    """Whether most rows have more than one cell."""
    return bool(widths) and sorted(widths)[len(widths) // 2] > 1


def check_title(path, names, widths):
    """
    Args:
        names: the cells of the first row that aren't empty.
        widths: the number of such cells of the rows below.

    Raises:
        ValueError: the first row is a title and not the names of the columns.
    """
    if len(names) == 1 and mostly_several(widths):
        raise ValueError(
            f"{path}: expected the names of the columns in its first row, found one cell there, {str(names[0])[:80]!r}"
            f", and more in most rows below; delete what stands above the names, such as a title, or, if that is the "
            f"only column, write cells with a separator in them in quotes"
        )


def widths_of(path, text, separator):
    """The number of cells of the first rows, that of the names first; rows that can't be read so have none."""
    try:
        found = list(itertools.islice(records(path, text, separator), LOOKED_AT))
    except ValueError:  # a quote that is never closed
        return []
    return [0 if isinstance(cells, csv.Error) else len(cells) for *_, cells in found]


def records(path, text, separator, spaced=False):
    """(number, line, cells) of each row that isn't blank, from 1; in place of cells the `csv.Error` of reading them.

    Args:
        text: a text, or a file that is open without translation of line ends.
        spaced: whether cells begin after a blank.

    Raises:
        ValueError: a quote that is never closed.
    """
    lines = io.StringIO(text, newline="") if isinstance(text, str) else text
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=spaced)
    for number in itertools.count(1):
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if "end of data" in str(error):
                raise ValueError(
                    f"{path} {Places([number], 'row', [line]).name(0)}: a quote is opened and never closed; all that "
                    f"follows would be one cell"
                ) from error
            cells = error
        if cells is None:
            return
        if isinstance(cells, csv.Error) or any(cell.strip() for cell in cells):
            yield number, line, cells


@contextlib.contextmanager
def long_cells():
    """Cells may have any length while in here."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


class TableForm(NamedTuple):
    """How the rows of a table are written.

    Attributes:
        separator: the character between cells.
        spaced: whether cells begin after a blank.
        names: the cells of the row of names.
        ends: how many empty cells each row has at its end, beyond those that have names.
        start: place of the first character of the row of names: a line before it may name the separator.
    """

    separator: str
    spaced: bool
    names: list
    ends: int
    start: int

    @property
    def column_names(self):
        named = max((place for place, name in enumerate(self.names, 1) if name.strip()), default=0)
        return unique_names(self.names[:named])

    def below(self, path, text):
        """The `records` of the table but that of the names; of a file that is open they begin at `start`."""
        return itertools.islice(records(path, text, self.separator, self.spaced), 1, None)

    def rows(self, found):
        """The [`JsonRows`] of `records` below that of the names; what is wrong with a row is a problem of it."""
        texts, problems, numbers, lines, columns = [], {}, array("q"), array("q"), self.column_names
        for number, line, cells in found:
            if isinstance(cells, csv.Error):
                problems[len(texts)] = (
                    f"its quotes can't be read: {cells}; quotes within a cell in quotes are written twice"
                )
                cells = []
            elif problem := problem_of(cells[: len(cells) - self.ends], self.names, self.separator):
                problems[len(texts)], cells = problem, []
            texts.append(WRITER.encode(dict(zip(columns, cells))))
            numbers.append(number)
            lines.append(line + bool(self.start))
        return JsonRows(texts, columns, True, problems, Places(numbers, "row", lines), repeated_names(self.names))

    def tell(self, path, encoding):
        """Says in the log what isn't usual."""
        if self.separator != "," or encoding != "utf-8":
            name = SEPARATORS.get(self.separator, repr(self.separator))
            logger.info("%s: its cells are separated by the %s, its encoding is %s", path, name, encoding)


def table_form(path, text, separator=None, most=None):
    """The [`TableForm`] of a table.

    Args:
        text: of the table, or of its beginning.
        separator: as `csv_separator` gives it; found out when left out.
        most: rows to look at; all when left out.

    Raises:
        ValueError: it can't be told.
    """
    if "\0" in text:
        raise ValueError(
            f"{path} has zero characters in it: it is no text, or in an encoding that --csv_encoding names"
        )
    said = SEPARATOR_LINE.match(text)
    start = said.end() if said else 0
    text, skipped = text[start:], bool(said)
    separator = separator and check_separator(separator)
    separator = separator or (said[1] if said else find_separator(path, text))
    *_, names = next(records(path, text, separator), (0, 0, []))
    if isinstance(names, csv.Error):
        raise ValueError(f"{path} line {skipped + 1}: the names of its columns can't be read: {names}")
    spaced = len(names) > 1 and all(name.startswith(" ") for name in names[1:])
    *_, names = next(records(path, text, separator, spaced), (0, 0, []))
    below = list(itertools.islice(records(path, text, separator, spaced), 1, LOOKED_AT))
    check_title(path, filled(names), [0 if isinstance(cells, csv.Error) else len(filled(cells)) for *_, cells in below])
    rows = itertools.islice(records(path, text, separator, spaced), most)
    return TableForm(separator, spaced, names, separators_at_ends(rows, len(names), separator), start)


def filled(cells):
    return [cell for cell in cells if cell.strip()]


def separators_at_ends(rows, width, separator):
    """How many empty cells each row has beyond those that have names, for lines that end in a separator.

    0 unless it is so of all rows, and none that is whole without them looks as if a comma had parted one of its
    cells: an empty cell too many may also come from that, and then all values after the comma are a column too far.

    Args:
        rows: as of `records`, that of the names first.
        width: the number of names.
    """
    fewest, doubtful = math.inf, set()
    for *_, cells in itertools.islice(rows, 1, None):
        if isinstance(cells, csv.Error):
            continue
        surplus = list(itertools.takewhile(lambda cell: not cell.strip(), reversed(cells[width:])))
        if not surplus:
            return 0
        fewest = min(fewest, len(surplus))
        if separator == "," and (has_split_number(cells) or any(cell[:1] == " " for cell in cells)):
            doubtful.add(len(cells) - width)
    return 0 if fewest in doubtful or fewest == math.inf else fewest


def has_split_number(cells):
    """Whether a number may have been parted at its decimal comma: a 1 and a 5 in cells side by side."""
    return any(WHOLE.fullmatch(one) and DECIMALS.fullmatch(next_one) for one, next_one in zip(cells, cells[1:]))


def problem_of(cells, names, separator):
    """What keeps cells from being a row, or None.

    The first column may be without a name: pandas writes the numbers of rows so.
    """
    nameless = [place for place, cell in enumerate(cells[: len(names)]) if cell.strip() and not names[place].strip()]
    advice = f"write cells with {separator!r} in them in quotes"
    if len(cells) > len(names):
        found = f"expected {len(names)} cells, as many as there are columns, found {len(cells)}; {advice}"
        if not cells[-1].strip():
            found += "; where all lines end in a separator, the first one must too"
    elif nameless and nameless[-1]:
        place = nameless[-1]
        found = f"cell {place + 1} has a value, {cells[place][:80]!r}, and its column has no name; name it, or {advice}"
    else:
        return None
    if separator == "," and has_split_number(cells):
        found += "; a comma within a number, such as 1,5, must be in quotes, or separate cells by semicolons"
    return found


def repeated_names(names):
    """The names that several columns have."""
    return {name for name, times in Counter(names).items() if times > 1}


def unique_names(names):
    """Column names, with a number for those that come again, as pandas numbers them."""
    found = []
    for name in names:
        times, base = 0, name
        while name in found:
            times += 1
            name = f"{base}.{times}"
        found.append(name)
    return found

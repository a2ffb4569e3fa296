"""Spreadsheets of Excel (.xlsx), read with openpyxl."""

import datetime
import logging
import warnings
import zipfile
from collections import Counter

from .places import Places
from .rows import PythonRows
from .tables import check_title, repeated_names, unique_names

logger = logging.getLogger(__name__)

SHOWN = 10


def read_excel(path, sheet=None):
    """The rows of a sheet, as [`PythonRows`] whose places are the sheet's row numbers.

    Values are those that are stored: of a formula the one that was last computed, of a number not how it is shown. Of
    merged cells each has the value that the person sees in them.

    Args:
        sheet: its name; the only one with rows when left out.

    Raises:
        ValueError: it is no spreadsheet, or it has several sheets with rows.
        ImportError: openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise ImportError(
            f"{path}: .xlsx is read with openpyxl: pip install 'dualvqa[excel]', or save the sheet as CSV UTF-8"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and drop-down lists, which are no values
            found = find_sheet(path, openpyxl.load_workbook(path), sheet)
            formulas = {cell.coordinate for row in found.rows for cell in row if cell.data_type == "f"}
            if formulas:
                found = openpyxl.load_workbook(path, data_only=True)[found.title]
    except (zipfile.BadZipFile, KeyError, TypeError, EOFError) as error:
        raise ValueError(f"{path} is not valid .xlsx: {error}") from error
    return sheet_rows(f"{path}, sheet {found.title!r}", found, formulas)


def find_sheet(path, book, name):
    """The sheet of a name, or the only one with rows."""
    if name is not None:
        if name not in [sheet.title for sheet in book.worksheets]:
            raise ValueError(
                f"{path} has no sheet {name!r} (it has {', '.join(sheet.title for sheet in book.worksheets)}); give "
                f"another --excel_sheet"
            )
        return book[name]
    filled = [sheet for sheet in book.worksheets if any(cell.value is not None for row in sheet.rows for cell in row)]
    if not filled:
        raise ValueError(f"{path} has no rows")
    if len(filled) > 1:
        raise ValueError(
            f"{path} has several sheets with rows: {', '.join(sheet.title for sheet in filled)}; name the right one "
            f"with --excel_sheet"
        )
    return filled[0]


def sheet_rows(source, sheet, formulas):
    """The rows of a sheet below the names of its columns; odd things are said in the log, or are problems.

    Args:
        formulas: the coordinates of cells with formulas; `sheet` has their values.
    """
    merged = {place: area for area in sheet.merged_cells.ranges for place in area.cells}
    rows = []
    for cells in sheet.rows:
        values = [plain(value_of(cell, merged, sheet)) for cell in cells]
        if any(value is not None for value in values):
            rows.append((cells[0].row, cells, values))
    if len(rows) < 2:
        raise ValueError(f"{source} has no rows below the names of its columns")
    (_, cells, names), *rows = rows
    own = [cell.value for cell in cells if plain(cell.value) is not None]  # a title over merged cells is one cell
    check_title(source, own, [sum(value is not None for value in values) for *_, values in rows])
    width = max(place + 1 for place, name in enumerate(names) if name is not None)
    names = ["" if name is None else str(name) for name in names[:width]]
    repeated, names = repeated_names(names), unique_names(names)
    problems = {
        place: found for place, (_, cells, _) in enumerate(rows) if (found := problem_of(cells, width, formulas))
    }
    report(source, sheet, rows, names, merged)
    columns = {name: [values[place] for *_, values in rows] for place, name in enumerate(names)}
    return PythonRows(columns, problems, Places([number for number, *_ in rows], "row"), repeated)


def problem_of(cells, width, formulas):
    """What keeps a row from being read, or None.

    Args:
        width: number of columns that have a name.
    """
    for place, cell in enumerate(cells):
        if cell.data_type == "e":
            return f"{cell.coordinate} is {cell.value}"
        if cell.value is None and cell.coordinate in formulas:
            return f"{cell.coordinate} is a formula that was never computed; open the file in Excel and save it"
        if place >= width and plain(cell.value) is not None:
            return f"{cell.coordinate} has a value, and its column has no name"
    return None


def value_of(cell, merged, sheet):
    """A cell's value; of merged cells that of the first of them, which is shown in all."""
    area = merged.get((cell.row, cell.column))
    return cell.value if area is None else sheet.cell(area.min_row, area.min_col).value


def plain(value):
    """A value as a row has it: dates as ISO 8601 writes them, empty texts as gaps."""
    if isinstance(value, datetime.datetime):
        return (value.date() if value.time() == datetime.time() else value).isoformat()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return None if isinstance(value, str) and not value.strip() else value


def report(source, sheet, rows, names, merged):
    """Says in the log what a person may not expect."""
    hidden = sum(bool(sheet.row_dimensions[number].hidden) for number, *_ in rows)
    if hidden:
        logger.warning("%s: %d hidden rows are read as the others are", source, hidden)
    if merged:
        logger.warning("%s: each of %d merged cells has the value that is shown in them", source, len(merged))
    formats = Counter()
    for _, cells, _ in rows:
        for name, cell in zip(names, cells):
            if cell.data_type == "n" and cell.value is not None and shown_differently(cell):
                formats[name, cell.number_format] += 1
    for (name, form), number in formats.most_common(SHOWN):
        logger.warning(
            "%s: %d numbers of column %r are shown as %s and read as they are stored", source, number, name, form
        )
    if getattr(sheet, "_images", None):
        logger.warning("%s: its %d pictures are not read; give images as files", source, len(sheet._images))


def shown_differently(cell):
    """Whether a number is shown as a share, or rounded."""
    return cell.number_format not in ("General", "@") and ("%" in cell.number_format or cell.value != int(cell.value))

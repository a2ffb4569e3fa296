"""The files that public data sets come in: JSON of several layouts, lines of fields, pairs of lines, pickles."""

import filecmp
import fnmatch
import json
import mimetypes
import os
import pickle
import sys

DEEPEST = 4  # folders in one another that are looked through
LINE = "line"  # of a row of a text file: the number of its line; not a field of the set


class Tree:
    """What is in a folder, looked through once.

    Args:
        root: the folder.
        flag: what messages call it.

    Raises:
        ValueError: there is no such folder.
    """

    def __init__(self, root, flag="--data_dir"):
        if not os.path.isdir(root):
            raise ValueError(f"{flag} {root}: no such folder")
        self.root, self.flag, self.folders = root, flag, {}
        for folder, inner, files in os.walk(root, followlinks=True):
            own = os.path.relpath(folder, root).replace(os.sep, "/")
            self.folders[own] = files
            if own.count("/") + 1 >= DEEPEST:
                inner.clear()
            inner.sort()

    def files(self, pattern):
        """The files whose path ends in a pattern: those that are least deep, in the order of their names."""
        last = pattern.rpartition("/")[2]
        found = [
            f"{folder}/{name}".removeprefix("./")
            for folder, names in self.folders.items()
            for name in fnmatch.filter(names, last)
        ]
        return self.least_deep(path for path in found if ends_in(path, pattern))

    def folder(self, names):
        """The folder whose path ends in one of some names, the first that is there; the root without any.

        Raises:
            ValueError: several of that name on one level have files in them.
        """
        for name in names:
            found = self.least_deep(folder for folder in self.folders if ends_in(folder, name))
            full = [folder for folder in found if self.has_files(os.path.relpath(folder, self.root))]
            if len(full) > 1:
                raise ValueError(
                    f"the folder {name} is there {len(full)} times ({', '.join(full)}): give the one with the images "
                    f"as --image_dir, or the folder that it is in as {self.flag}"
                )
            if found:
                return (full or found)[0]
        return self.root

    def has_files(self, folder):
        """Whether there are files in a folder or below it."""
        folder = folder.replace(os.sep, "/")
        return any(names for own, names in self.folders.items() if own == folder or own.startswith(f"{folder}/"))

    def least_deep(self, paths):
        paths = sorted(paths)
        depth = min((path.count("/") for path in paths), default=0)
        return [os.path.join(self.root, path) for path in paths if path.count("/") == depth]


def ends_in(path, pattern):
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"*/{pattern}")


class ImageIndex:
    """The files of a folder and all below it, by their name and by their name without its ending."""

    def __init__(self, folder):
        self.names, self.stems = {}, {}
        for place, inner, names in os.walk(folder, followlinks=False):
            inner.sort()
            for name in sorted(names):
                path = os.path.join(place, name)
                self.names.setdefault(name, []).append(path)
                self.stems.setdefault(os.path.splitext(name)[0], []).append(path)

    def find(self, name):
        """The path of an image, with its own ending or any other; None where there is none.

        Raises:
            ValueError: several different files may be meant.
        """
        found = self.names.get(name) or self.stems.get(name) or self.stems.get(os.path.splitext(name)[0], [])
        if len(found) > 1:
            found = [path for path in found if (mimetypes.guess_type(path)[0] or "").startswith("image/")] or found
        others = [path for path in found[1:] if not filecmp.cmp(found[0], path, shallow=False)]
        if others:
            raise ValueError(
                f"the image {name} may be {' or '.join([found[0], *others])}, which are different files: keep the one "
                f"that is meant"
            )
        return found[0] if found else None


def read_rows(path, layout):
    """The rows of a file, a dict each.

    Args:
        layout: how it is laid out; see `public_sets.Part`.

    Raises:
        ValueError: it isn't laid out so.
    """
    try:
        rows = READERS[layout.format](path, layout)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} line {error.lineno} is not valid JSON: {error.msg}") from error
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected a list of rows, found {kind_of(rows)}")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, row {number}: expected an object with the row's fields, found {kind_of(row)}")
    return rows


def kind_of(value):
    if isinstance(value, dict):
        return f"an object with {', '.join(list(map(str, value))[:5]) or 'nothing'}"
    return f"a list of {len(value)}" if isinstance(value, (list, tuple)) else f"a {type(value).__name__}"


def read_text(path):
    with open(path, encoding="utf-8-sig") as file:
        return file.read()


def read_json(path, layout):
    """Rows of a list, of one under a key, or of an object by id; their fields as an object or a list."""
    value = json.loads(read_text(path), object_pairs_hook=slimmer(path, layout.drop))
    if layout.rows:
        if not isinstance(value, dict) or layout.rows not in value:
            raise ValueError(f"{path}: expected an object with {layout.rows!r}, found {kind_of(value)}")
        value = value[layout.rows]
    if layout.id:
        if not isinstance(value, dict):
            raise ValueError(f"{path}: expected an object of rows by their {layout.id}, found {kind_of(value)}")
        value = [{layout.id: key, **row} if isinstance(row, dict) else row for key, row in value.items()]
    if layout.names and isinstance(value, list):
        value = [named(path, number, row, layout.names) for number, row in enumerate(value, 1)]
    return value


def slimmer(path, drop):
    """What `json` makes of an object: a dict without the fields that nobody reads, of one person's answer the text."""
    drop = frozenset(drop)

    def slim(pairs):
        if len(dict(pairs)) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{path}: the key {twice!r} comes twice in one object; only one can be meant")
        kept = {name: value for name, value in pairs if name not in drop}
        if kept.keys() == {"answer"} and isinstance(kept["answer"], str) and len(pairs) > 1:
            return sys.intern(kept["answer"])
        return kept

    return slim


def named(path, number, row, names):
    if not isinstance(row, list) or len(row) != len(names):
        raise ValueError(f"{path}, row {number}: expected a list of {', '.join(names)}, found {kind_of(row)}")
    return dict(zip(names, row))


def read_lines(path, layout):
    """A JSON object in each line."""
    slim, rows = slimmer(path, layout.drop), []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            try:
                rows.append(json.loads(line, object_pairs_hook=slim))
            except json.JSONDecodeError as error:
                error.lineno = number
                raise
    return rows


def read_separated(path, layout):
    """Fields between | in each line, the last of which may have some of its own; nothing is quoted."""
    rows, names = [], layout.names
    for number, line in enumerate(read_text(path).split("\n"), 1):
        fields = [field.strip() for field in line.split("|", len(names) - 1)]
        if line.strip() and len(fields) < len(names):
            raise ValueError(f"{path} line {number}: expected {'|'.join(names)}, found {line[:80]!r}")
        if line.strip():
            rows.append({**dict(zip(names, fields)), LINE: number})
    return rows


def read_pairs(path, layout):
    """A question in a line and its answer in the next."""
    lines = [(n, line.strip()) for n, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    if len(lines) % 2:
        raise ValueError(
            f"{path}: expected a question and its answer in turns, found {len(lines)} lines, an odd number"
        )
    pairs = zip(lines[::2], lines[1::2])
    return [{"question": question, "answer": answer, LINE: number} for (number, question), (_, answer) in pairs]


class PlainUnpickler(pickle.Unpickler):
    """Reads lists, dicts, texts and numbers; a pickle that would run code is refused."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"it would run {module}.{name}, and only plain lists and dicts are read")


def read_pickle(path, layout):
    try:
        with open(path, "rb") as file:
            return PlainUnpickler(file).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, ValueError) as error:
        raise ValueError(f"{path} can't be read as a pickle: {error}") from error


READERS = {
    "json": read_json,
    "lines": read_lines,
    "separated": read_separated,
    "pairs": read_pairs,
    "pickle": read_pickle,
}

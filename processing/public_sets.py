"""Public data sets as they are distributed: public_sets.yaml says what is known of each, and this reads it."""

import difflib
import functools
import logging
import os
import re
import string
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from .places import Places
from .rows import PythonRows
from .set_files import LINE, ImageIndex, Tree, read_rows

logger = logging.getLogger(__name__)

FILE = Path(__file__).with_name("public_sets.yaml")
MOST_NAMED = 5  # of the things that a message lists


@dataclass
class Part:
    """Where a part's questions, answers and images are, and how they are laid out.

    Attributes:
        file: name of the questions' file, or several; wildcards are allowed, and folders before the name.
        format: json, lines (JSON Lines), separated (by |), pairs (of lines) or pickle.
        rows: of JSON the key of the list of rows.
        id: of a JSON object of rows by id what the id is called.
        names: what the fields are called, where they are told apart by their place.
        drop: fields of JSON objects, at any depth, that nobody reads.
        answers: name of a further file with the answers, if there is one.
        answer_rows, answer_names: `rows` and `names` of it.
        key: the field by which questions and answers belong together.
        beside: name of a further file, an object by the rows' `id`, whose fields are joined where it is there.
        keep: field -> values of the rows that are this part's.
        flat: fields whose values are objects; their items become fields.
        question, answer: the fields with these.
        extract: a field with a part of the question, by a regular expression: [field, expression].
        without: what is taken out of questions, a regular expression.
        image: file name of a row's image, with its fields in braces.
        folder: names of the folder with the images, the likeliest first.
        anywhere: whether images are looked for in all folders below it, with any ending.
    """

    file: str | list
    format: str = "json"
    rows: str | None = None
    id: str | None = None
    names: list = field(default_factory=list)
    drop: list = field(default_factory=list)
    answers: str | None = None
    answer_rows: str | None = None
    answer_names: list = field(default_factory=list)
    key: str | None = None
    beside: str | None = None
    keep: dict = field(default_factory=dict)
    flat: list = field(default_factory=list)
    question: str = "question"
    answer: str = "answer"
    extract: list = field(default_factory=list)
    without: str | None = None
    image: str = "{image}"
    folder: list = field(default_factory=list)
    anywhere: bool = False

    @property
    def files(self):
        return [self.file] if isinstance(self.file, str) else self.file

    def of_answers(self):
        """The layout of the file with the answers."""
        return Part(self.answers, self.format, self.answer_rows, names=self.answer_names, drop=self.drop)


@functools.cache
def public_sets():
    """name -> what public_sets.yaml says of it."""
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def set_name(name):
    """The name of a public set, however it is written; None for another data set."""
    plain = (name or "").lower().replace("-", "_")
    return plain if plain in public_sets() else None


def close_set(name):
    """A hint at the public sets that a data set's name is like, for messages; or nothing."""
    plain = (name or "").lower().replace("-", "_")
    close = [known for known in public_sets() if known.replace("_", "") == plain.replace("_", "")]
    close = close or difflib.get_close_matches(plain, public_sets(), 3)
    return f"; did you mean {' or '.join(close)}, with --data_dir?" if close and "/" not in name else ""


def sets_like(path, keys):
    """The public sets that a JSON object with lists of rows under some keys may be a file of."""
    found = {}
    for name in public_sets():
        parts = [part for options in parts_of(name).values() for part in options]
        if any({part.rows, part.answer_rows} & set(keys) for part in parts):
            found[name] = any(os.path.basename(path) in (*part.files, part.answers) for part in parts)
    return [name for name, same_file in found.items() if same_file or not any(found.values())]


def set_settings(name):
    """What a public set's answers need of the settings: name -> value."""
    return public_sets()[set_name(name)].get("settings", {}) if set_name(name) else {}


def parts_of(name):
    """part -> the [`Part`]s that it may be distributed as."""
    known = public_sets()[name]
    shared = {key: value for key, value in known.items() if key in Part.__dataclass_fields__}
    found = {}
    for part, options in known["parts"].items():
        options = options if isinstance(options, list) else [options]
        found[part] = [Part(**{**shared, **option}) for option in options]
    return found


def load_public_set(args):
    """The parts of a public set that are in its folder: part -> [`PythonRows`], with image, question and answer.

    Args:
        args: `DataArguments`, with `dataset_name` and `data_dir`; `image_dir` where the images are elsewhere.

    Raises:
        ValueError: no folder, no file of the set in it, questions without their answers, or answers of others.
    """
    name = set_name(args.dataset_name)
    known, parts = public_sets()[name], parts_of(name)
    names = "; ".join(f"{part}: {', '.join(options[0].files)}" for part, options in parts.items())
    if not args.data_dir:
        raise ValueError(
            f"{known['title']} is read from the files that it is distributed as: give --data_dir, the folder with them "
            f"({names}). They are at {known['home']}"
        )
    tree = Tree(args.data_dir)
    images = Tree(args.image_dir, "--image_dir") if args.image_dir and args.image_dir != args.data_dir else tree
    raw = {}
    for part, options in parts.items():
        found = [(option, files) for option in options if (files := files_of(tree, option))]
        if not found:
            logger.info("%s has no %s part: there is no %s below %s", name, part, options[0].files[0], args.data_dir)
            continue
        rows = read_part(tree, *found[0], needs_answers=part != "test")
        place = find_images(images, found[0][0], rows, args.image_dir)
        raw[part] = as_columns(found[0][0], rows, place)
        logger.info("%s: the %s part is %s", name, part, ", ".join(found[0][1]))
    if not raw:
        raise ValueError(f"{args.data_dir} has no file of {known['title']}; expected ({names})")
    return raw


def files_of(tree, part):
    """The files with a part's questions, or none where one isn't there."""
    found = [tree.files(pattern) for pattern in part.files]
    for pattern, files in zip(part.files, found):
        if len(files) > 1 and not set(pattern) & set("*?["):
            raise ambiguous(pattern, files)
    return [file for files in found for file in files] if all(found) else []


def ambiguous(pattern, files):
    return ValueError(
        f"{pattern} is there {len(files)} times ({', '.join(files)}): give the folder of one as --data_dir"
    )


def read_part(tree, part, files, needs_answers):
    """The rows of a part as dicts, joined with their answers."""
    rows = []
    for file in files:
        own = read_rows(file, part)
        for row in own if len(files) > 1 else []:
            if LINE in row:
                row[LINE] = f"{row[LINE]} of {os.path.basename(file)}"
        rows += own
    if part.key:
        check_keys(rows, part.key, ", ".join(files))
    if part.answers:
        rows = join_answers(tree, part, files, rows, needs_answers)
    for name, values in part.keep.items():
        rows = [row for row in rows if row.get(name) in values]
    for name in part.flat:
        for row in rows:
            row.update(row.pop(name, None) or {})
    if part.beside:
        join_beside(tree, part, rows)
    if part.extract:
        name, pattern = part.extract
        for row in rows:
            found = re.search(pattern, str(row.get(part.question)))
            row[name] = found[0] if found else None
    return rows


def check_keys(rows, key, source):
    """Refuses rows without the field by which they belong to others, and several with one value of it."""
    lacking = [number for number, row in enumerate(rows, 1) if row.get(key) is None]
    if lacking:
        raise ValueError(f"{source}: {len(lacking)} rows have no {key}: row {some(lacking)}")
    counts = Counter(as_text(row[key]) for row in rows)
    twice = [value for value, count in counts.items() if count > 1]
    if twice:
        raise ValueError(f"{source} has several rows for {key} {some(twice)}; one is expected for each")


def as_text(value):
    """An id as a text: some files have 9 where others have "9"."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def join_answers(tree, part, files, rows, needed):
    """The rows with the fields of their answers, from the further file.

    Raises:
        ValueError: it isn't there and is needed, it is of other questions, or says something else of a question.
    """
    found = tree.files(part.answers)
    if len(found) > 1:
        raise ambiguous(part.answers, found)
    if not found:
        if needed:
            raise ValueError(
                f"{', '.join(files)} has questions without their answers: {part.answers} belongs to it, and isn't "
                f"below {tree.root}. Put it there, or take the questions out"
            )
        return rows
    of_answers = read_rows(found[0], part.of_answers())
    check_keys(of_answers, part.key, found[0])
    answers = {as_text(row[part.key]): row for row in of_answers}
    keys = [as_text(row[part.key]) for row in rows]
    known = [key for key in keys if key in answers]
    if not known:
        raise ValueError(
            f"{found[0]} has the answers of other questions: none of its {len(answers)} {part.key}s ({some(answers)}) "
            f"is one of the {len(keys)} in {', '.join(files)} ({some(keys)})"
        )
    for lacking, what in ((set(keys) - answers.keys(), files[0]), (answers.keys() - set(keys), found[0])):
        if lacking:
            other = found[0] if what == files[0] else files[0]
            logger.warning("%d %ss of %s are not in %s: %s", len(lacking), part.key, what, other, some(lacking))
    joined = []
    for key, row in zip(keys, rows):
        own = answers.get(key, {})
        shared = (row.keys() & own.keys()) - {LINE}
        differing = [name for name in shared if as_text(row[name]) != as_text(own[name])]
        if differing:
            name = sorted(differing)[0]
            raise ValueError(
                f"{found[0]} is of other questions: {part.key} {row[part.key]} has the {name} {own[name]!r} there, and "
                f"{row[name]!r} in {', '.join(files)}"
            )
        joined.append({**row, **own, **row})
    return joined


def join_beside(tree, part, rows):
    """Gives rows the fields of a further file that may be there; those that it lacks go without."""
    found = tree.files(part.beside)
    if len(found) > 1:
        raise ambiguous(part.beside, found)
    if not found:
        logger.info("there is no %s below %s: its fields are left out", part.beside, tree.root)
        return
    own = {row[part.id]: row for row in read_rows(found[0], Part(part.beside, id=part.id))}
    lacking = [row[part.id] for row in rows if row[part.id] not in own]
    if lacking:
        logger.warning("%d of %d questions are not in %s: %s", len(lacking), len(rows), found[0], some(lacking))
    for row in rows:
        row.update({**own.get(row[part.id], {}), **row})


def some(values):
    """A few of several values in words."""
    values = list(values)
    return ", ".join(map(str, values[:MOST_NAMED])) + (", ..." if len(values) > MOST_NAMED else "")


def find_images(tree, part, rows, image_dir):
    """The path of each row's image, None where a row names none.

    Raises:
        ValueError: rows without the fields that an image's name is made of.
    """
    folder = tree.folder(part.folder)
    index = ImageIndex(folder) if part.anywhere else None
    if part.folder and folder == tree.root:
        logger.info("no folder %s below %s: images are looked for in it", " or ".join(part.folder), tree.root)
    formats = {name: kind for _, name, kind, _ in string.Formatter().parse(part.image) if name}
    numbers = [name for name, kind in formats.items() if kind.endswith("d")]
    found = []
    for row in rows:
        if any(row.get(name, 0) is None for name in formats):
            found.append(None)
            continue
        try:
            as_numbers = {name: int(row[name]) for name in numbers if isinstance(row[name], str)}
            name = part.image.format_map({**row, **as_numbers} if as_numbers else row)
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(
                f"{part.files[0]}: an image's name is {part.image}, and a row has {some(row)} ({error!r}); is this the "
                f"file of another set?"
            ) from error
        path = (index and index.find(name)) or os.path.join(folder, name)
        found.append(os.path.relpath(path, image_dir) if image_dir else path)
    return found


def as_columns(part, rows, images):
    """[`PythonRows`] of dicts: image, question and answer under these names, and the other fields."""
    names = dict.fromkeys(name for row in rows for name in row)
    if part.question not in names:
        raise ValueError(
            f"{', '.join(part.files)}: expected rows with {part.question!r}, found {some(names) or 'none'}"
        )
    questions = [row.get(part.question) for row in rows]
    if part.without:
        questions = [re.sub(part.without, "", text) if isinstance(text, str) else text for text in questions]
    columns = {"image": images, "question": questions}
    if part.answer in names:
        columns["answer"] = [row.get(part.answer) for row in rows]
    taken = {"image", "question", "answer", part.question, part.answer, LINE}
    others = {name: [row.get(name) for row in rows] for name in names if name not in taken}
    unit = part.id or part.key or LINE
    places = Places([row.get(unit) for row in rows], unit) if unit in names else None
    return PythonRows({**columns, **others}, places=places)

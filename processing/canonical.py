"""What a row's image, question and answer are, whatever the source has in their place."""

import functools
import io
import logging
import os
import re

from .image_loading_dualvqa import is_image_object, load_image
from .image_sources_dualvqa import is_below
from .rows import writable
from .vqa_accuracy.answer_strings import answer_text
from .wording import worded
from .written_lists import looks_like_list, read_list

logger = logging.getLogger(__name__)

SEPARATED = re.compile(r"[;|\n]")  # between the answers of several people in one cell; commas are in answers too
MANY = 0.05  # of the answers, that look so


class BadCellError(ValueError):
    """A value that is no image, question or answer, in words."""


class RowReader:
    """Brings the values of one source to canonical ones, and counts what it had to decide, for `report`.

    Args:
        args: `DataArguments`.
        source: its name, for the log.
        all_text: whether the source knows only text, so that a list can only be written as text.
    """

    def __init__(self, args, source, all_text=False):
        self.args, self.source, self.all_text = args, source, all_text
        self.booleans = self.lists = self.no_lists = 0
        self.cells = self.gaps = self.with_gaps = 0  # of answers: read, empty ones beside others, cells with such
        self.first_gap = None  # number of the first such cell, and what it is
        self.several, self.first_several = 0, None  # texts that look like several people's answers

    def image(self, value):
        """A path, or a dict with the image's bytes; of a PIL image, an array or a tensor those of a PNG of it.

        Raises:
            BadCellError: no image, several, something else, or a path that leaves the folder it may not leave.
        """
        if is_image_object(value):
            try:
                return {"bytes": as_png(load_image(value, self.args.image_sources)), "path": None}
            except ValueError as error:
                raise BadCellError(f"{error}") from error
        return find_image(self.unwritten(value), self.args.image_dir, self.args.image_dir_only)

    def question(self, value):
        """A text that isn't empty.

        Raises:
            BadCellError: an empty question, several, or something else.
        """
        value = self.unwritten(value)
        if isinstance(value, (list, tuple)) and len(value) > 1:
            raise BadCellError(f"expected one question, found a list of {len(value)}")
        value = value[0] if isinstance(value, (list, tuple)) and value else value
        if isinstance(value, (dict, list, tuple, bytes)):
            raise BadCellError(f"expected a question's text, found {describe(value)}")
        return checked_text(to_text(value) or "", "question")

    def answer(self, value):
        """A text, or a list of the texts of several people without those who said nothing; None for no answer.

        Raises:
            BadCellError: something else.
        """
        self.cells += 1
        if isinstance(value, str) and looks_like_list(value.strip()):
            value = self.unwritten(value, quoted=not self.all_text)
        if isinstance(value, dict):  # VQA v2 wraps each answer: {"answer": ..., "answer_confidence": ...}
            if "answer" not in value:
                raise BadCellError(f"expected an answer's text, found {describe(value)}")
            value = value["answer"]
        if not isinstance(value, (list, tuple)):
            if isinstance(value, str) and looks_like_several(value):
                self.several, self.first_several = self.several + 1, self.first_several or value
            return self.one_answer(value)
        answers = [answer for answer in map(self.one_answer, value) if answer is not None]
        if answers and len(answers) < len(value):
            self.first_gap = self.first_gap or (self.cells - 1, value)
            self.gaps, self.with_gaps = self.gaps + len(value) - len(answers), self.with_gaps + 1
        return answers or None

    def one_answer(self, value):
        """An answer's text as one person wrote it, or None for a gap."""
        if isinstance(value, dict) and "answer" in value:
            value = value["answer"]
        if isinstance(value, (list, tuple)) and len(value) <= 1:
            value = value[0] if value else None
        if isinstance(value, str) and looks_like_list(value.strip()) and is_gap(read_list(value.strip())):
            return None
        if isinstance(value, (dict, list, tuple, bytes)):
            raise BadCellError(f"expected an answer's text, found {describe(value)}")
        text = to_text(value)
        if answer_text(text) is None:  # blank, or nothing but what can't be seen
            return None
        if isinstance(value, bool) or text.strip().lower() in ("true", "false"):
            self.booleans += 1
            if self.args.boolean_answers == "yes_no":
                return "yes" if text.strip().lower() == "true" else "no"
        return checked_text(text, "answer")

    def unwritten(self, value, quoted=False):
        """A list in place of the text that writes it; other values as they are.

        Args:
            quoted: also where the source has lists of its own, but then only lists of texts and gaps: [1, 2] may be an
                interval.
        """
        if not isinstance(value, str) or not (self.all_text or quoted) or not looks_like_list(value.strip()):
            return value
        found = read_list(value.strip())
        if found is None:
            self.no_lists += 1
            return value
        if quoted and not has_text(found) and not is_gap(found):
            return value
        self.lists += 1
        return found

    def report(self, place=None):
        """Says in the log what was decided.

        Args:
            place: number of an answer among those read -> what messages call its row.
        """
        if self.gaps:
            first, cell = self.first_gap
            logger.warning(
                "%s: %s empty answers in %s of %s questions, beside those of other people, are left out: they have no "
                "vote, and scores count the other people alone. The first are in %s%.80r. If they mean something, "
                'write it in their place, such as "unanswerable"',
                self.source,
                f"{self.gaps:,}",
                f"{self.with_gaps:,}",
                f"{self.cells:,}",
                f"{place(first)}: " if place else "",
                cell,
            )
        if self.several > MANY * self.cells:
            logger.warning(
                "%s: %s of %s answers look like those of several people in one cell, such as %.80r, and are taken as "
                "one answer each; if they are several, write them as a list: %.80r",
                self.source,
                f"{self.several:,}",
                f"{self.cells:,}",
                self.first_several,
                parts_of(self.first_several),
            )
        if self.booleans and self.args.boolean_answers != "yes_no" and self.args.rules.form("true") != "yes":
            logger.warning(
                '%s: %d answers are true or false; they are the words "true" and "false", but for a new model of whose '
                "training answers no others mean yes and no; with %s they are yes and no",
                self.source,
                self.booleans,
                worded("--boolean_answers yes_no"),
            )
        if self.lists:
            logger.warning("%s: %d lists that are written as text are read as lists", self.source, self.lists)
        if self.no_lists:
            logger.warning(
                "%s: %d texts in brackets look like lists, can't be read as such, and are kept as text",
                self.source,
                self.no_lists,
            )


def parts_of(text):
    """What a text has between separators."""
    parts = SEPARATED.split(text) if SEPARATED.search(text.strip()) else text.split(",")
    return [part.strip() for part in parts if part.strip()]


def looks_like_several(text):
    """Whether a text may be several people's answers: "yes; no", or with commas one that somebody repeats."""
    separated = bool(SEPARATED.search(text.strip()))
    if not separated and ("," not in text or text.replace(",", "").isdigit()):  # 1,1 is a number
        return False
    parts = parts_of(text)
    return len(parts) > 1 and (separated or len(set(parts)) < len(parts))


def as_png(image):
    """The bytes of a PNG file of a PIL image, whose pixels are the same."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def has_text(value):
    """Whether a list has a text or an object in it, or in a list of it."""
    return any(map(has_text, value)) if isinstance(value, list) else isinstance(value, (str, dict))


def is_gap(found):
    """Whether a list has nothing but gaps in it."""
    return isinstance(found, list) and all(is_gap(item) or to_text(item) is None for item in found)


def to_text(value):
    """A single value as text; None for a missing one."""
    if value is None or value != value:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def checked_text(text, name):
    """A text that can be stored.

    Raises:
        BadCellError: an empty one, or half of a surrogate pair.
    """
    if not text.strip():
        raise BadCellError(f"empty {name}")
    if not writable(text):
        raise BadCellError(f"the {name} has half of a surrogate pair, which is no character")
    return text


def describe(value):
    """What a value is, without all that is in it."""
    if isinstance(value, dict):
        return f"an object with {', '.join(map(repr, list(value)[:5])) or 'nothing'}"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    return f"{len(value)} bytes" if isinstance(value, bytes) else repr(value)[:80]


def find_image(image, image_dir, inside=False):
    """An image column's value as a path from where we are, or as a dict with the image's bytes.

    Args:
        image_dir: folder that a relative path starts from.
        inside: whether a path that leaves this folder is refused.

    Raises:
        BadCellError: no image, several, something else, or a path outside.
    """
    if isinstance(image, (list, tuple)):
        if len(image) > 1:
            raise BadCellError(f"expected one image, found a list of {len(image)}")
        image = image[0] if image else None
    if isinstance(image, (bytes, bytearray, memoryview)):
        return {"bytes": bytes(image), "path": None}
    if isinstance(image, dict):
        content, path = image.get("bytes"), image.get("path")
        known = isinstance(content, (bytes, type(None))) and isinstance(path, (str, type(None)))
        if not known or not image.keys() & {"bytes", "path"}:
            raise BadCellError(f"expected an image's path or bytes, found {describe(image)}")
        if content is not None:
            return {"bytes": content, "path": path}
        image = path
    if isinstance(image, (list, tuple)):
        raise BadCellError(f"expected an image's path or bytes, found {describe(image)}")
    path = to_text(image)
    if path is None:
        raise BadCellError("no image")
    path = checked_text(path, "image path")
    path = os.path.join(image_dir, path) if image_dir else path
    if inside and not is_inside(path, image_dir):
        raise BadCellError(f"its path leaves {image_dir}, and --image_dir_only forbids that")
    return path


@functools.lru_cache(maxsize=2**16)  # an image has many questions
def is_inside(path, folder):
    """Whether a path stays in a folder, links followed."""
    try:
        return is_below(os.path.realpath(path), os.path.realpath(folder))
    except ValueError:  # a NUL
        return False

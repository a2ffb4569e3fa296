"""The encoding of a text file: what its bytes are as characters."""

import itertools
import json
import logging
from typing import NamedTuple

from charset_normalizer import from_bytes
from charset_normalizer.cd import coherence_ratio

from .wording import worded

logger = logging.getLogger(__name__)

WESTERN = "English,German,French,Dutch,Italian,Spanish,Portuguese,Swedish,Danish,Norwegian,Finnish"
CENTRAL = "Polish,Czech,Slovak,Hungarian,Romanian,Croatian,Slovene"
JAPANESE = "Japanese,Japanese—,Japanese——"  # kanji, hiragana and katakana, as charset-normalizer calls them
# What programs write besides Unicode, and the languages that it is for. Of those that read a file alike, the first is
# named. Windows' code pages come first: they are what spreadsheets save CSV in.
ENCODINGS = {
    "cp1252": WESTERN,
    "cp1250": CENTRAL,
    "cp1251": "Russian,Ukrainian,Bulgarian,Serbian",
    "cp1253": "Greek",
    "cp1254": "Turkish",
    "cp1255": "Hebrew",
    "cp1256": "Arabic,Farsi",
    "cp1257": "Lithuanian,Estonian",
    "cp1258": "Vietnamese",
    "cp874": "Thai",
    "cp932": JAPANESE,
    "gb18030": "Chinese",
    "cp949": "Korean",
    "big5": "Chinese",
    "euc_jp": JAPANESE,
    "koi8_r": "Russian",
    "iso8859_2": CENTRAL,
    "mac_roman": WESTERN,
    "cp850": WESTERN,
}
OTHERS = ("euc_jp", "koi8_r", "iso8859_2", "mac_roman", "cp850")  # likely only where they are more orderly than those
SAMPLE = 2**15  # bytes by which an encoding is told
STEPS, CHUNK = 64, 512  # pieces of the sample that are looked at, and their bytes
# How much more disorderly a reading may be than the best to be likely, and how much better the letters of one must fit
# its languages to be preferred: wider than charset-normalizer's own bounds, by which files of a few rows are misread.
DISORDER, FIT = 0.02, 0.08
SHOWN, MOST_SHOWN = 3, 80  # line numbers, and characters of a line, in messages
ADVICE = "save it as UTF-8 (in a spreadsheet: as CSV UTF-8), or give --csv_encoding"


class Decoded(NamedTuple):
    """A file's text without a byte order mark, and the encoding that it was in."""

    text: str
    encoding: str


def check_encoding(name):
    """
    Raises:
        ValueError: there is no such encoding of texts.
    """
    try:
        "".encode(name)
    except (LookupError, ValueError) as error:
        raise ValueError(
            f"csv_encoding must be the name of an encoding, such as utf-8, cp1252 or utf-16; found {name!r}"
        ) from error


def decode_unicode(path, content, advice):
    """The text of a file that must be in UTF-8, UTF-16 or UTF-32."""
    encoding = json.detect_encoding(content)
    return Decoded(decoded(path, content, encoding, advice).removeprefix("\ufeff"), encoding)


def decode(path, content, encoding=None):
    """The text of a file in any encoding, [`Decoded`].

    UTF-16 and UTF-32 are known by their mark or their zero bytes, UTF-8 by being valid; others are told by
    charset-normalizer, among `ENCODINGS`.

    Args:
        encoding: the one that it is in; found out when left out.

    Raises:
        ValueError: it isn't in that encoding, or in several, or which one it is can't be told.
    """
    if encoding:
        text = decoded(path, content, encoding, "give another --csv_encoding, or none to have it found out")
        return Decoded(text.removeprefix("\ufeff"), encoding)
    unicode = json.detect_encoding(content)
    if not unicode.startswith("utf-8"):
        return Decoded(decoded(path, content, unicode, ADVICE).removeprefix("\ufeff"), unicode)
    try:
        return Decoded(content.decode("utf-8-sig"), "utf-8")
    except UnicodeDecodeError:
        check_one_encoding(path, content)
        return told_apart(path, content)


def decoded(path, content, encoding, advice):
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path} line {line}: expected {encoding.removesuffix('-sig').upper()}, found the byte "
            f"0x{content[error.start]:02x}; {advice}"
        ) from error


def check_one_encoding(path, content):
    """
    Raises:
        ValueError: some lines are in UTF-8 and others are not. Read as one encoding, some would become nonsense.
    """
    valid, others = [], []
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.isascii():
            try:
                line.decode()
                valid.append(number)
            except UnicodeDecodeError:
                others.append(number)
    if valid:
        raise ValueError(
            f"{path} has two encodings: {lines_of(valid)} in UTF-8, and {lines_of(others)} not. Write all of it in one "
            f"encoding, or give --csv_encoding where it is one"
        )


def lines_of(numbers):
    """Lines in words, the first few by their numbers."""
    if len(numbers) == 1:
        return f"line {numbers[0]} is"
    more = ", ..." if len(numbers) > SHOWN else ""
    return f"{len(numbers)} lines ({', '.join(map(str, numbers[:SHOWN]))}{more}) are"


def told_apart(path, content):
    """The text of a file that isn't in Unicode; see `decode`."""
    sample = content
    if len(content) > SAMPLE:  # first the lines that say something about it; others show what language it is
        lines = sorted(dict.fromkeys(content.split(b"\n")), key=bytes.isascii)
        sizes = itertools.accumulate(len(line) + 1 for line in lines)
        sample = b"\n".join(line for line, size in zip(lines, sizes) if size <= SAMPLE) or content[:SAMPLE]
    likely = likely_encodings(sample)
    texts = {name: attempt(content, name) for name in likely}
    names = {text: name for name, text in reversed(texts.items()) if text is not None}
    names = {name: text for text, name in reversed(names.items())}
    if not names:
        line, byte = first_other(content)
        raise ValueError(
            f"{path} line {line}: expected UTF-8, found the byte 0x{byte:02x}, and which encoding it is in can't be "
            f"told; {ADVICE}"
        )
    if len(names) > 1:
        lines = enumerate(zip(*(text.split("\n") for text in names.values())), 1)
        line, read = max(lines, key=lambda reading: len(set(reading[1])))
        read = [f"{name} ({text.strip()[:MOST_SHOWN]})" for name, text in zip(names, read)]
        raise ValueError(
            f"{path} is not in UTF-8, and could be in several encodings, by which line {line} reads: "
            f"{', '.join(read)}. Give the right one with --csv_encoding, or save it as UTF-8"
        )
    ((name, text),) = names.items()
    line = first_other(content)[0]
    logger.warning(
        "%s is not in UTF-8 but, as its letters tell, in %s, by which line %d reads: %s. If that is wrong, give %s",
        path,
        name,
        line,
        text.split("\n")[line - 1].strip()[:MOST_SHOWN],
        worded("--csv_encoding"),
    )
    return Decoded(text, name)


def likely_encodings(sample):
    """The encodings by which some bytes are text as orderly as by any, and in whose languages it could be, in the order
    of `ENCODINGS`."""
    found = from_bytes(
        sample, STEPS, CHUNK, cp_isolation=list(ENCODINGS), preemptive_behaviour=False, enable_fallback=False
    )
    disorder = {name: match.chaos for match in found for name in match.could_be_from_charset if name in ENCODINGS}
    least = min(disorder.values(), default=0)
    of_windows = min((disorder[name] for name in disorder if name not in OTHERS), default=1)
    likely = [name for name in ENCODINGS if disorder.get(name, 1) < least + DISORDER]
    likely = [name for name in likely if name not in OTHERS or disorder[name] < of_windows]
    fits = {name: fit(sample.decode(name, "replace"), ENCODINGS[name]) for name in likely}
    return [name for name in likely if fits[name] > max(fits.values()) - FIT]


def fit(text, languages):
    """How well the frequencies of a text's letters fit one of some languages, from 0 to 1."""
    return max((ratio for _, ratio in coherence_ratio(text, 0.01, languages)), default=0)


def attempt(content, encoding):
    """The text in an encoding, or None where it isn't in it."""
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None


def first_other(content):
    """The line of the first byte that is no ASCII, and the byte."""
    place = next(place for place, byte in enumerate(content) if byte > 127)
    return content.count(b"\n", 0, place) + 1, content[place]

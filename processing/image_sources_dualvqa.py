"""Where images may come from, and how much is read of them: files, URLs and base64 text -> bytes."""

import base64
import binascii
import os
import re
import stat
import urllib.parse
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass

SHORTEST_BASE64 = 48  # characters of the smallest GIF
BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")


@dataclass(frozen=True)
class ImageSources:
    """Which images are opened, and how much of them is read. It belongs to a run of a program and is never saved.

    Image objects, bytes and base64 text are always taken: who has them has the image already.

    Args:
        folders: files are read below these folders only, links resolved; None is any file, () none.
        hosts: URLs are read from these hosts only, each a name or name:port, whatever their address is; None is any
            host, () none.
        internal: with hosts None, whether addresses of this machine and of its network are read as well. Where they
            are not, proxies aren't used: an address that a proxy looks up can't be checked.
        max_bytes: the largest file, download or base64 text.
        seconds: for a whole download, redirects included.
        max_pixels: height times width of the largest image, known before it is decoded.

    Raises:
        ValueError: a value of another type or range.
    """

    folders: tuple | None = None
    hosts: tuple | None = None
    internal: bool = False
    max_bytes: int = 128 * 2**20
    seconds: float = 20.0
    max_pixels: int = 50_000_000

    def __post_init__(self):
        for name in ("folders", "hosts"):
            value = getattr(self, name)
            if isinstance(value, (list, tuple)) and all(isinstance(item, (str, os.PathLike)) for item in value):
                items = (os.path.realpath(item) if name == "folders" else item.lower() for item in value)
                object.__setattr__(self, name, tuple(items))
            elif value is not None:
                raise ValueError(
                    f"expected {name} of image sources to be a list of names or None, found {value!r:.200}"
                )
        if not isinstance(self.internal, bool):
            raise ValueError(f"expected internal of image sources to be True or False, found {self.internal!r:.200}")
        for name in ("max_bytes", "seconds", "max_pixels"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                raise ValueError(f"expected {name} of image sources to be a number above 0, found {value!r:.200}")

    @classmethod
    def of(cls, value):
        """The sources that a name of `PRESETS`, a dict of fields or another `ImageSources` means."""
        if isinstance(value, str) and value in PRESETS:
            return PRESETS[value]
        if is_dataclass(value) and not isinstance(value, type):  # a saved folder's code has a class of its own
            value = asdict(value)
        names = [field.name for field in fields(cls)]
        if not isinstance(value, Mapping) or not set(value) <= set(names):
            raise ValueError(
                f"expected image sources as one of {', '.join(PRESETS)}, or a dict with some of {', '.join(names)}; "
                f"found {value!r:.200}"
            )
        return cls(**value)

    def read(self, source):
        """The content of an image that is given as bytes, path, URL, data URI or base64 text.

        Raises:
            ValueError: it is not to be had from there, or is too large or too slow; the message names it.
        """
        try:
            if isinstance(source, (bytes, bytearray, memoryview)):
                return self.sized(bytes(source))
            text = os.fsdecode(source)
            if text[:8].lower().startswith(("http://", "https://")):
                from .downloads_dualvqa import download  # whoever opens files alone needs no network

                return self.sized(download(text, self))
            if text[:5].lower() == "data:":
                return self.decode(urllib.parse.unquote(text.partition(",")[2]))
            if re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE):
                raise ValueError("of URLs, http and https are read")
            return self.read_file(text)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
            raise ValueError(
                f"expected a readable image at {name_of(source)}: {reason or type(error).__name__}"
            ) from error

    def sized(self, content):
        if len(content) > self.max_bytes:
            raise ValueError(f"more than {self.max_bytes} bytes, the limit of max_bytes")
        return content

    def decode(self, text):
        """Base64 text as bytes."""
        if len(text) > 2 * self.max_bytes:  # a line break after every third character is more than anyone writes
            raise ValueError(f"more than {self.max_bytes} bytes, the limit of max_bytes")
        try:
            return self.sized(base64.b64decode("".join(text.split()), validate=True))
        except binascii.Error as error:
            raise ValueError(f"no base64: {error}") from error

    def read_file(self, path):
        """A regular file. Its kind and size are looked at before it is opened: pipes wait, and devices never end."""
        if not path.strip():
            raise ValueError("the path is empty")
        as_content = len(path) >= SHORTEST_BASE64 and BASE64.fullmatch(path)
        if self.folders == ():
            if as_content:
                return self.decode(path)
            raise ValueError("paths are not allowed here; give the image itself, as bytes or as an object")
        real = os.path.realpath(path)
        if self.folders is not None and not any(is_below(real, folder) for folder in self.folders):
            raise ValueError("it is outside of the folders that are allowed")
        try:
            self.check_file(os.stat(real))
        except OSError:
            if as_content:
                return self.decode(path)
            raise
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(real, flags), "rb") as file:
            size = self.check_file(os.fstat(file.fileno()))  # it may have been replaced since
            content = file.read(size + 1)
        if len(content) != size:
            raise ValueError(f"it says that it has {size} bytes and has {'more' if len(content) > size else 'fewer'}")
        return content

    def check_file(self, found):
        """The size of a file of the right kind."""
        if not stat.S_ISREG(found.st_mode):
            kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
            raise ValueError(f"expected a file, found {kinds.get(stat.S_IFMT(found.st_mode), 'a device')}")
        if found.st_size > self.max_bytes:
            raise ValueError(f"it has {found.st_size} bytes, and the limit max_bytes is {self.max_bytes}")
        return found.st_size


PRESETS = {
    "any": ImageSources(internal=True),  # what a person at their own machine expects
    "objects": ImageSources(folders=(), hosts=()),
}
FILES = ImageSources(hosts=())  # images of a data file
CHECKED = ImageSources(hosts=(), max_bytes=2**40, max_pixels=2**40)  # those that a check with limits has let pass


def is_below(path, folder):
    try:
        return os.path.commonpath([path, folder]) == folder
    except ValueError:  # other drives
        return False


def name_of(source):
    """A source as messages name it: never its content."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"{len(source)} bytes"
    text = printable(os.fsdecode(source))
    return text if len(text) <= 200 else f"{text[:60]}... ({len(text)} characters)"


def printable(text):
    """A text that can be written: halves of surrogate pairs, as in names of files that are no UTF-8, are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()

"""Where images may come from, and how much is read of them: files, URLs and base64 text -> bytes."""

import base64
import binascii
import http.client
import importlib
import io
import ipaddress
import os
import re
import socket
import ssl
import stat
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass

REDIRECTS = (301, 302, 303, 307, 308)
MOST_REDIRECTS = 5
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # IPv4 addresses inside IPv6 (RFC 6052)
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # all else of IPv6 is for a place's own use (RFC 4291)
SHORTEST_BASE64 = 48  # characters of the smallest GIF
BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
CHUNK = 2**16


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
                return self.download(text)
            if text[:5].lower() == "data:":
                return self.decode(urllib.parse.unquote(text.partition(",")[2]))
            if re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE):
                raise ValueError("of URLs, http and https are read")
            return self.read_file(text)
        except (OSError, ValueError, http.client.HTTPException) as error:
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

    def download(self, url):
        """The content of a URL, as the server stores it: what it compresses on the way is not read."""
        deadline = time.monotonic() + self.seconds
        checks = self.hosts is None and not self.internal
        opener = urllib.request.OpenerDirector()
        handlers = [Connections(deadline, checks), urllib.request.UnknownHandler()]
        for handler in handlers if checks else [urllib.request.ProxyHandler(), *handlers]:
            opener.add_handler(handler)
        for _ in range(MOST_REDIRECTS + 1):
            try:
                with opener.open(self.request(url), timeout=self.seconds) as response:
                    if response.status not in REDIRECTS or not response.headers["Location"]:
                        return self.body(response)
                    url = urllib.parse.urljoin(url, response.headers["Location"])
            except TimeoutError:
                raise ValueError(f"timed out, not complete after {self.seconds:g} seconds") from None
            except urllib.error.URLError as error:
                if isinstance(error.reason, TimeoutError):
                    raise ValueError(f"timed out, not complete after {self.seconds:g} seconds") from None
                raise ValueError(getattr(error.reason, "strerror", None) or error.reason) from error
        raise ValueError(f"more than {MOST_REDIRECTS} redirects")

    def request(self, url):
        """A request for a URL, written anew from the parts that were checked."""
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
        if parts.scheme.lower() not in ("http", "https") or not host or "@" in parts.netloc:
            raise ValueError(f"expected http(s)://host[:port]/..., found {url[:200]}")
        place = f"[{host}]" if ":" in host else host
        place = place if port is None else f"{place}:{port}"
        if self.hosts is not None and not {host, place} & set(self.hosts):
            raise ValueError(
                f"the host {place} is not among those allowed"
                if self.hosts
                else "URLs are not allowed here; give the image itself, as bytes or as an object"
            )
        path, query = (
            urllib.parse.quote(part, safe="%/:=&?~+!$,;'@()*[]") for part in (parts.path or "/", parts.query)
        )
        url = urllib.parse.urlunsplit((parts.scheme.lower(), place, path, query, ""))
        return urllib.request.Request(url, headers={"User-Agent": "dualvqa"})

    def body(self, response):
        if response.status != 200:
            raise ValueError(f"the server answered {response.status} {response.reason}")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ValueError(
                f"the server compressed it ({response.headers['Content-Encoding'][:40]}) without being asked"
            )
        expected = response.length  # None where the server doesn't say
        if expected is not None and expected > self.max_bytes:
            raise ValueError(f"it has {expected} bytes, and the limit max_bytes is {self.max_bytes}")
        content = bytearray()
        while len(content) <= self.max_bytes and (chunk := response.read(CHUNK)):
            content += chunk
        if expected is not None and len(content) < expected:
            raise ValueError(f"the server stopped after {len(content)} of {expected} bytes")
        return self.sized(bytes(content))


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


def is_public(address):
    """Whether an IP address is one of the open internet."""
    address = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    if address.version == 6 and address in NAT64:
        inner = ipaddress.ip_address(int(address) & 0xFFFFFFFF)
    if inner:
        return is_public(str(inner))
    return address.is_global and not address.is_multicast and (address.version == 4 or address in GLOBAL_UNICAST)


class Connections(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Connects to the address that was checked, and to no other that the name may have a moment later."""

    def __init__(self, deadline, checks):
        super().__init__()
        self.deadline, self.checks = deadline, checks

    def http_open(self, request):
        return self.do_open(lambda host, **kwargs: guarded(http.client.HTTPConnection(host, **kwargs), self), request)

    def https_open(self, request):
        context = trusted()
        return self.do_open(
            lambda host, **kwargs: guarded(http.client.HTTPSConnection(host, context=context, **kwargs), self), request
        )

    def connect(self, address, *_):
        """A socket for (host, port), in place of `socket.create_connection`."""
        host, port = address
        addresses = [host]
        if self.checks:
            addresses = [found[-1][0] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
            for found in addresses:
                if not is_public(found):
                    raise ValueError(f"{host} is an internal address, and those are not allowed here")
        for last, found in enumerate(addresses, 1 - len(addresses)):
            try:
                return socket.create_connection((found, port), self.left())
            except OSError:
                if last == 0:
                    raise

    def left(self):
        """Seconds until the deadline."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def trusted():
    """The authorities whose signature on a server's certificate counts: where huggingface_hub is installed, its own."""
    try:
        return importlib.import_module("huggingface_hub.utils").httpx.create_ssl_context()
    except ImportError:
        return ssl.create_default_context()


def guarded(connection, connections):
    """A connection that is made by `connections` and reads until its deadline, however little comes at a time."""
    connection._create_connection = connections.connect
    connection.response_class = lambda sock, **kwargs: http.client.HTTPResponse(Timed(sock, connections), **kwargs)
    return connection


class Timed(io.RawIOBase):
    """A socket as a file that is read until the deadline; a socket's own limit is for each read alone."""

    def __init__(self, sock, connections):
        self.sock, self.connections, self.file = sock, connections, sock.makefile("rb", buffering=0)

    def makefile(self, mode):
        return io.BufferedReader(self)

    def readable(self):
        return True

    def readinto(self, buffer):
        self.sock.settimeout(self.connections.left())
        return self.file.readinto(buffer)

    def close(self):
        self.file.close()
        super().close()

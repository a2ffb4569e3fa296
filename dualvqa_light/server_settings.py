"""What a server may be told, as the flags of its command line and as a dataclass."""

import argparse
import dataclasses
import re
from dataclasses import dataclass, field

from .image_sources_dualvqa import ImageSources


def described(default, about):
    return field(default=default, metadata={"help": about})


@dataclass(frozen=True)
class ServerSettings:
    """Every field is a flag of `dualvqa serve`, with these words as its help.

    Raises:
        ValueError: a value out of range.
    """

    host: str = described("127.0.0.1", "Address to listen on; 0.0.0.0 for all of this machine's.")
    port: int = described(8000, "Port to listen on; 0 for any that is free.")
    max_batch_size: int = described(32, "Questions that are answered together.")
    max_wait_ms: float = described(
        0.0,
        "Milliseconds that a question may wait for others when nothing is computed; those that come while a batch is "
        "computed form the next one anyway.",
    )
    max_requests: int = described(64, "Requests at a time; one more gets 503 and Retry-After.")
    max_questions: int = described(64, "Questions of one request.")
    max_body_mib: float = described(16.0, "MiB of a request's body.")
    max_megapixels: float = described(50.0, "Million pixels of the largest image, known before it is decoded.")
    readers: int = described(
        2, "Threads that decode images; each may need the memory of the largest, 20 bytes a pixel."
    )
    threads: int = described(0, "Threads that a computation takes; 0 leaves it to the library.")
    embedding_cache_mib: float = described(64.0, "MiB of embeddings of images, and of questions, that are kept.")
    header_seconds: float = described(
        10.0, "Seconds until a request's headers must be there, and between two requests."
    )
    body_seconds: float = described(30.0, "Seconds until a request's body must be there.")
    answer_seconds: float = described(60.0, "Seconds until a question must be answered, waiting included.")
    stop_seconds: float = described(60.0, "Seconds that accepted requests have to end in when the server is stopped.")
    allow_urls: bool = described(
        False, "Fetch images from http and https URLs of the open internet (not of this machine's own network)."
    )
    allow_hosts: tuple = described((), "Fetch images from URLs of these hosts alone, each name or name:port.")
    allow_folders: tuple = described((), "Read images from files below these folders of this machine.")
    allow_origins: tuple = described(
        (), "Web pages of these origins may ask from a browser, each as https://a.org; * for all pages (CORS)."
    )
    url_seconds: float = described(10.0, "Seconds for the download of an image.")
    access_log: bool = described(False, "Write a line for each request.")

    def __post_init__(self):
        for spec in dataclasses.fields(self):
            value, least = getattr(self, spec.name), 0 if spec.name in ZERO else 1e-6
            if spec.type in (int, float) and (isinstance(value, bool) or not least <= value < float("inf")):
                raise ValueError(f"{spec.name} must be a number {'from' if least == 0 else 'above'} 0, found {value!r}")
            if spec.type is int and value != int(value):
                raise ValueError(f"{spec.name} must be a whole number, found {value!r}")
        if self.port > 65535:
            raise ValueError(f"port must be at most 65535, found {self.port}")
        for origin in self.allow_origins:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise ValueError(f"allow_origins must be like https://a.org or https://a.org:8080, found {origin!r}")

    @property
    def image_sources(self):
        """What may be opened for strangers: nothing but what they send, unless said otherwise."""
        any_host = None if self.allow_urls and not self.allow_hosts else tuple(self.allow_hosts)
        return ImageSources(
            folders=tuple(self.allow_folders),
            hosts=any_host,
            max_bytes=self.max_body,
            seconds=self.url_seconds,
            max_pixels=int(self.max_megapixels * 1e6),
        )

    @property
    def max_body(self):
        """Bytes of a body."""
        return int(self.max_body_mib * 2**20)


ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#*A-Z]+")  # browsers send it in small letters and without a path
ZERO = ("port", "max_wait_ms", "threads", "embedding_cache_mib")  # may be 0


def add_flags(parser):
    """The fields of [`ServerSettings`] as flags of an argparse parser."""
    for spec in dataclasses.fields(ServerSettings):
        flag, about = f"--{spec.name}", spec.metadata["help"]
        if spec.type is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=spec.default, help=about)
        elif spec.type is tuple:
            parser.add_argument(flag, nargs="+", default=spec.default, metavar="NAME", help=about)
        else:
            about = f"{about} (default {spec.default})"
            parser.add_argument(flag, type=spec.type, default=spec.default, metavar=spec.type.__name__, help=about)


def read_flags(parsed):
    """What was parsed -> [`ServerSettings`]."""
    found = {spec.name: getattr(parsed, spec.name) for spec in dataclasses.fields(ServerSettings)}
    return ServerSettings(**{name: tuple(value) if isinstance(value, list) else value for name, value in found.items()})

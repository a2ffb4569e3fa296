"""The texts of a memory's examples: a file beside the weights, which leaves the machine only when that is asked for."""

import hashlib
import json
import os
from pathlib import Path

from transformers.utils import cached_file, logging

logger = logging.get_logger(__name__)

FILE = "memory_examples.jsonl"
WHERE = ("cache_dir", "force_download", "proxies", "token", "revision", "local_files_only", "subfolder")


def write_texts(folder, memory):
    """Writes one line per example, a dict with `image`, `question` and `answer`; without texts an earlier file goes.

    Args:
        folder: where the weights are.
        memory: a [`Memory`], or None.
    """
    path, texts = Path(folder, FILE), None if memory is None else memory.texts
    if texts is None:
        path.unlink(missing_ok=True)
        return
    path.write_bytes(as_bytes(texts))


def as_bytes(texts):
    lines = (json.dumps(text, ensure_ascii=False) + "\n" for text in texts)
    return "".join(lines).encode("utf-8", "backslashreplace")


def with_digest(settings, texts):
    """`config.memory` with the digest of its examples' texts, None where none are kept.

    A push that leaves the texts out leaves those on the Hub that an earlier push has taken: the digest tells that they
    are of another memory.
    """
    return {**settings, "texts": None if texts is None else digest_of(texts)}


def digest_of(texts):
    return hashlib.sha256(as_bytes(texts)).hexdigest()[:16]


def read_texts(source, settings, options):
    """The texts of a memory's examples, or None where none were kept, or they are of other examples.

    Args:
        source: folder or id on the Hub.
        settings: `config.memory`; where it was saved before it had a digest of the texts, their number alone counts.
        options: what `from_pretrained` was given; `WHERE` of it is used.
    """
    where = {name: options[name] for name in WHERE if options.get(name) is not None}
    path = cached_file(
        os.fspath(source),
        FILE,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **where,
    )
    if path is None:
        return None
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")  # a text may have U+2028, a line's end to splitlines
        texts = [json.loads(line) for line in lines if line]
        count = settings["examples"]
        if len(texts) != count or not all(isinstance(text, dict) for text in texts):
            problem = f"it has {len(texts)} lines, and the memory {count} examples"
        elif settings.get("texts", "not known") not in ("not known", digest_of(texts)):
            problem = "its texts are those of another memory"
        else:
            return texts
    except ValueError as error:
        problem = str(error)
    logger.warning("%s is not the memory's (%s): answers come without evidence", path, problem)
    return None

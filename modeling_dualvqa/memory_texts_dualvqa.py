"""The texts of a memory's examples: a file beside the weights, which leaves the machine only when that is asked for."""

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
    lines = (json.dumps(text, ensure_ascii=False) + "\n" for text in texts)
    path.write_text("".join(lines), encoding="utf-8", errors="backslashreplace", newline="\n")


def read_texts(source, count, options):
    """The texts of `count` examples, or None where none were kept, or they are of other examples.

    Args:
        source: folder or id on the Hub.
        count: how many examples the memory has.
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
        if len(texts) == count and all(isinstance(text, dict) for text in texts):
            return texts
        problem = f"it has {len(texts)} lines, and the memory {count} examples"
    except ValueError as error:
        problem = str(error)
    logger.warning("%s is not the memory's (%s): answers come without evidence", path, problem)
    return None

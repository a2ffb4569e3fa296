"""The table of Python files in a saved folder's model card."""

import hashlib
import re
from pathlib import Path

CODE_TABLE = "| file | SHA-256 |\n|---|---|\n"
CODE_ROW = re.compile(r"^\| `(\w+\.py)` \| `([0-9a-f]{64})` \|\n", re.MULTILINE)


def list_code(folder):
    """Brings the table of Python files in the folder's README.md up to date; `model_card_dualvqa` has its twin.

    There are two because model and processor are saved in any order, and neither side's files may need the other's.
    """
    path = Path(folder, "README.md")
    head, table, tail = (path.read_text(encoding="utf-8") if path.exists() else "").partition(CODE_TABLE)
    if table:
        hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in Path(folder).glob("*.py")}
        listed = {**dict(CODE_ROW.findall(tail)), **hashes}
        rows = "".join(f"| `{name}` | `{digest}` |\n" for name, digest in sorted(listed.items()))
        path.write_text(head + table + rows + CODE_ROW.sub("", tail), encoding="utf-8", newline="\n")

"""Pages of results. Without torch, for benchmarks that measure the memory of a process."""

from pathlib import Path


def write_page(path, text):
    """Writes a page of results. What was found, the paragraph in bold that a person put under the title, stays."""
    path = Path(path)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    start = next((number for number, line in enumerate(lines) if line.startswith("**")), None)
    if start is not None and not any(lines[1:start]):  # nothing but blank lines between the title and it
        end = next((number for number, line in enumerate(lines[start:], start) if not line), len(lines))
        title, _, rest = text.partition("\n")
        text = "\n".join([title, "", *lines[start:end], rest])
    path.write_text(text, encoding="utf-8")

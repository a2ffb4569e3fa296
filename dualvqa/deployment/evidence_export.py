"""The texts of a memory's examples beside an exported model: dualvqa export --evidence"""

import json
from pathlib import Path

from dualvqa.training.building import load_model
from dualvqa_light.decoding import QUESTION_TYPES
from dualvqa_light.folder import MANIFEST, file_hash, read_manifest

EVIDENCE = "evidence.jsonl"


def read_evidence(folder):
    """The examples of a saved model's memory, as `lines_of` gives them.

    Raises:
        ValueError: the model has no memory, or its texts were not kept.
    """
    memory = load_model(folder)[0].memory
    if memory is None or memory.texts is None:
        found = "has no memory" if memory is None else "has a memory without texts"
        raise ValueError(
            f"--evidence writes the texts of a memory's examples, and {folder} {found}: train it with --memory, or "
            f"export it without"
        )
    return lines_of(memory)


def lines_of(memory):
    """A line of JSON for each example of a memory: its texts, and what its answer means to the decoder."""
    meant = zip(memory.question_type.tolist(), memory.answer_index.tolist())
    return [
        json.dumps({**text, "question_type": QUESTION_TYPES[kind], "index": index}, ensure_ascii=False)
        for text, (kind, index) in zip(memory.texts, meant, strict=True)
    ]


def write_evidence(lines, output_dir):
    """Adds these lines to an exported folder, and their file to its manifest."""
    path = Path(output_dir, EVIDENCE)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))
    manifest = read_manifest(output_dir)
    manifest["files"][EVIDENCE] = file_hash(path)
    text = json.dumps({**manifest, "evidence": EVIDENCE}, indent=2, ensure_ascii=False)
    Path(output_dir, MANIFEST).write_text(text + "\n", encoding="utf-8")


def without_evidence(output_dir):
    """Removes the texts of an earlier export into the same folder: they are there only where they are asked for."""
    Path(output_dir, EVIDENCE).unlink(missing_ok=True)

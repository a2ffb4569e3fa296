"""What must hold of a manifest and its files before a question is asked: a wrong field could change answers."""

import math

from .folder import MANIFEST
from .preprocessing import RESAMPLING

PARTS = ("vision", "text", "heads")
DAMAGED = (
    "{manifest} of {folder} is damaged: expected {expected} as {name}, found {found!r:.100}; export the model again"
)


def whole(value, least=1):
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def sides(value):
    """Whether these are a height and a width."""
    return isinstance(value, dict) and set(value) == {"height", "width"} and all(map(whole, value.values()))


def size(value):
    shortest = isinstance(value, dict) and set(value) == {"shortest_edge"} and whole(value["shortest_edge"])
    return value is None or shortest or sides(value)


def channels(value):
    return isinstance(value, list) and len(value) == 3 and all(map(number, value))


def words(value):
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


SIDES = "height and width"
# What each field must be, in words, and whether a value is that.
FIELDS = {
    ("image", "resize"): (f"{SIDES}, shortest_edge, or null", size),
    ("image", "resample"): (f"one of {', '.join(RESAMPLING)}, or null", lambda value: value in (None, *RESAMPLING)),
    ("image", "crop"): (f"{SIDES}, or null", lambda value: value is None or sides(value)),
    ("image", "scale"): ("a number above 0", lambda value: number(value) and value > 0),
    ("image", "mean"): ("three numbers", channels),
    ("image", "std"): ("three numbers above 0", lambda value: channels(value) and min(value) > 0),
    ("question", "tokenizer"): ("the name of a file", lambda value: isinstance(value, str)),
    ("question", "max_tokens"): ("a whole number from 3, or null", lambda value: value is None or whole(value, 3)),
    ("question", "truncation_side"): ("left or right", lambda value: value in ("left", "right")),
    ("question", "padding_side"): ("left or right", lambda value: value in ("left", "right")),
    ("question", "padding_id"): ("a whole number from 0", lambda value: whole(value, 0)),
    ("answers", "binary"): ("the words for no and yes", lambda value: words(value) and len(value) == 2),
    ("answers", "open_ended"): ("a list of texts", words),
}


def check_fields(folder, manifest):
    """
    Raises:
        ValueError: a field is missing or is something else, or a file that is read isn't among `files`.
    """
    for (group, name), (expected, holds) in FIELDS.items():
        found = manifest[group].get(name)
        if name not in manifest[group] or not is_right(holds, found):
            raise damaged(folder, expected, f"{group}.{name}", found)
    for name in (manifest["question"]["tokenizer"], manifest.get("evidence")):
        if name is not None and name not in manifest["files"]:
            raise damaged(folder, "a file that is named in files", "tokenizer or evidence", name)


def is_right(holds, value):
    try:
        return holds(value)
    except TypeError:  # of what can't be looked up or compared
        return False


def damaged(folder, expected, name, found):
    said = DAMAGED.format(manifest=MANIFEST, folder=folder, expected=expected, name=name, found=found)
    return ValueError(said)


def check_graphs(folder, manifest, sessions):
    """
    Raises:
        ValueError: a part is missing, or the parts don't fit each other, the images or the answers.
    """
    missing = [part for part in PARTS if part not in sessions]
    if missing:
        raise ValueError(f"{folder} has {', '.join(sessions)}, and not {missing[0]}; export that part too")
    given = {part: shapes(session.get_inputs()) for part, session in sessions.items()}
    made = {part: shapes(session.get_outputs()) for part, session in sessions.items()}
    image = manifest["image"]
    fixed = image["crop"] or (image["resize"] if sides(image["resize"]) else None)
    height, width = (fixed["height"], fixed["width"]) if fixed else (None, None)
    pairs = [
        ("vision", "pixel_values", [None, 3, height, width]),
        ("heads", "image_embeds", made["vision"].get("image_embeds")),
        ("heads", "text_embeds", made["text"].get("text_embeds")),
    ]
    for part, name, comes in pairs:
        takes = given[part].get(name)
        if takes is None or comes is None or not fits(takes, comes):
            raise ValueError(
                f"{part}.onnx of {folder} takes {name} of {takes}, and what comes is of {comes}: the files are of "
                f"different models, or were changed; export the model again"
            )
    for name, answers in manifest["answers"].items():
        logits = made["heads"].get(f"{name}_logits")
        if logits is not None and not fits(logits, [None, len(answers)]):
            raise ValueError(
                f"heads.onnx of {folder} has {name}_logits of {logits}, and the vocabulary has {len(answers)} answers; "
                f"export the model again"
            )
    if not any(f"{name}_logits" in made["heads"] for name in manifest["answers"]):
        raise ValueError(f"heads.onnx of {folder} gives {', '.join(made['heads'])}: no logits; export the model again")


def shapes(tensors):
    """name -> sides of the tensors of a graph; None for a side of any length."""
    return {item.name: [side if isinstance(side, int) else None for side in item.shape] for item in tensors}


def fits(one, other):
    return len(one) == len(other) and all(None in pair or pair[0] == pair[1] for pair in zip(one, other))

"""Saved folders and images that a command is given, checked before anything large is imported."""

import json
import os


def check_folder(folder):
    """A saved model's folder, or the id of one on the Hub.

    Raises:
        ValueError: a folder that holds no DualVQA model, or none where one is meant.
    """
    if os.path.isdir(folder):
        found = read_json(folder, "config.json").get("model_type", "none")
        if found != "dualvqa":
            raise ValueError(
                f"{folder} is no DualVQA model: expected config.json with model_type dualvqa, found {found}"
            )
        return folder
    owner, _, name = folder.partition("/")
    if not name or "/" in name or folder.startswith((".", "~")) or os.path.exists(owner):
        raise ValueError(f"there is no folder {folder}; give that of a saved model, or its id on the Hub, OWNER/NAME")
    return folder


def check_answering(folder):
    """A saved model's folder or Hub id, or what `dualvqa export` wrote.

    Raises:
        ValueError: see `check_folder`.
    """
    return folder if is_exported(folder) else check_folder(folder)


def is_exported(folder):
    """Whether `dualvqa export` wrote a folder: it has a manifest."""
    return os.path.isfile(os.path.join(folder, "onnx.json"))


def check_image(image):
    """
    Raises:
        ValueError: neither a file nor a URL.
    """
    if not image.startswith(("http://", "https://")) and not os.path.isfile(image):
        raise ValueError(f"expected an image's file or URL, found {image}: no such file")
    return image


def read_json(folder, name):
    """What a JSON file of a folder holds; {} where there is none.

    Raises:
        ValueError: it is damaged.
    """
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        return {}
    with open(path, encoding="utf-8") as file:
        try:
            found = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: expected names with values, found {type(found).__name__}")
    return found

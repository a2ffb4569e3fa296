"""The questions that explanations are measured with, and where the shape of an easy-VQA image is."""

import json
import random

import numpy as np
import torch
from scipy.ndimage import maximum_filter


def asked(count, seed):
    """`count` test images chosen by chance, as (path, question, answer), one question by chance about each."""
    try:
        import easy_vqa
    except ImportError as error:
        raise SystemExit("error: easy-VQA's images come with its package: pip install easy-vqa") from error
    by_image = {}
    for question, answer, image in zip(*easy_vqa.get_test_questions()):
        by_image.setdefault(image, []).append((question, answer))
    if not 2 <= count <= len(by_image):
        raise SystemExit(f"error: expected --images from 2 to {len(by_image)}, found {count}")
    paths, chance = easy_vqa.get_test_image_paths(), random.Random(seed)
    return [(paths[image], *chance.choice(by_image[image])) for image in chance.sample(list(by_image), count)]


def shape_mask(image):
    """(H, W, 3) -> (H, W), true where a pixel isn't of the background's colour, the commonest of the border."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    colors, counts = np.unique(border, axis=0, return_counts=True)
    return (image != colors[counts.argmax()]).any(axis=-1)


def over_pixels(values, mask):
    """A map (h, w) spread over the pixels of a mask (H, W): each place's value over all of its pixels, sum 1."""
    spread = torch.nn.functional.interpolate(torch.tensor(values)[None, None], mask.shape, mode="nearest-exact")
    spread = spread[0, 0].double().numpy()
    return spread / spread.sum()


def near(mask, grid):
    """The mask, widened on all sides by one place of the grid."""
    return maximum_filter(mask, [2 * (pixels // places) + 1 for pixels, places in zip(mask.shape, grid)])


def touched(mask, grid):
    """(h, w): the places of the grid with a pixel of the mask."""
    rows = [np.arange(pixels) * places // pixels for pixels, places in zip(mask.shape, grid)]
    found = np.zeros(grid, dtype=bool)
    np.logical_or.at(found, (rows[0][:, None], rows[1][None]), mask)
    return found


def localisation(values, mask):
    """Of a map (h, w) and the mask (H, W) of a shape: does it point there, and what share of it lies there, all 0 .. 1.

    Returns:
        A dict: `points`, whether the place with the maximum touches the shape; `chance`, how many of the places do;
        `on` and `near`, the share of the map on the shape and within one place of it, and `size`, that of a map that is
        the same everywhere. What is below 0 counts as 0; a map without anything above has no share and points nowhere.
    """
    values = np.maximum(values, 0)
    places = touched(mask, values.shape)
    found = {"points": bool(values.any() and places.flat[values.argmax()]), "chance": float(places.mean())}
    if values.any():
        spread = over_pixels(values, mask)
        found["on"], found["near"] = float(spread[mask].sum()), float(spread[near(mask, values.shape)].sum())
        found["size"] = float(mask.mean())
    return found


def validation_questions(model, data, count, seed):
    """`count` questions about as many radiology images that a model was validated with, as (path, question, answer).

    Args:
        model: saved folder with report_rows.jsonl.
        data: folder with train.jsonl, whose lines that file counts, and the images.
    """
    lines = (data / "train.jsonl").read_text(encoding="utf-8").splitlines()
    report = (model / "report_rows.jsonl").read_text(encoding="utf-8").splitlines()
    by_image = {}
    for told in map(json.loads, report):
        row = json.loads(lines[told["row"]])
        if told["part"] == "validation" and told["known"]:
            by_image.setdefault(row["image"], []).append((row["question"], row["answer"]))
    chance = random.Random(seed)
    images = chance.sample(sorted(by_image), min(count, len(by_image)))
    return [(str(data / image), *map(str, chance.choice(by_image[image]))) for image in images]

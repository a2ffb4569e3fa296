"""Which places of an image would change an answer: some are hidden, and the model is asked again.

No gradients: all that is needed is a function that scores images, whatever computes it.
"""

from functools import partial

import numpy as np
from PIL import Image, ImageFilter

GRID = 16  # places along each side of a map
FILLS = ("mean", "blur")
BLUR = 8  # the standard deviation is the image's longer side over it
RISE_MASKS, RISE_CELLS, RISE_HIDDEN = 150, 8, 0.3
# Windows of `occlusion`, one size after another: its side and its step in places, and the share of the places that it
# looks at, those that changed most before. About 45 images, and about 160.
QUICK = ((8, 4, 1.0), (4, 2, 0.06), (2, 1, 0.03))
FINE = ((4, 2, 1.0), (2, 1, 0.25))


def occlusion(scores, image, fill="mean", levels=QUICK):
    """A large window goes over the image, then smaller ones where the larger changed most.

    The sliding square of Zeiler and Fergus (2014, section 4.1), from coarse to fine: several sizes find things of more
    sizes than one does, with 45 images in place of 395.

    Args:
        scores: a function of a list of images that gives their scores (n,), in any unit.
        image: RGB PIL image of at least `GRID` x `GRID` pixels.
        fill: what hides a place, see `hidden`.
        levels: (side, step, share) of each size of window, the largest first; the first looks everywhere.

    Returns:
        (GRID, GRID): by how much the score changes, up or down, when a place is hidden: mean over the windows that hide
        it, summed over the sizes. Without the sign, since what is hidden may speak for the answer or keep the model
        from a surer one: a shape that isn't what was asked for does both.
    """
    whole, found = scores([image])[0], np.zeros((GRID, GRID))
    for number, (side, step, share) in enumerate(levels):
        where = found >= np.quantile(found, 1 - share)
        if number:
            where &= found > 0  # where nothing changed, there is nothing to look at more closely
        masks = windows(side, step, where)  # (n, GRID, GRID)
        if not len(masks):
            break
        changes = np.abs(scores(hidden(image, masks, fill)) - whole)  # (n,)
        found += np.tensordot(changes, masks, 1) / np.maximum(masks.sum(axis=0), 1)
    return found


def rise(scores, image, fill="mean", seed=0):
    """Many places at once are hidden by chance: RISE (Petsiuk et al. 2018), with masks of hard edges.

    Args:
        scores, image, fill: as in `occlusion`.
        seed: of the masks.

    Returns:
        (GRID, GRID): by how much the score changes, up or down, on average over the masks that hide a place, less that
        over those that show it. The difference stands for the division by the expected mask in RISE's equation 6: a
        place that nothing depends on has 0, up to chance.
    """
    chance = np.random.default_rng(seed)
    cells = chance.random((RISE_MASKS, RISE_CELLS, RISE_CELLS)) < RISE_HIDDEN
    masks = cells.repeat(GRID // RISE_CELLS, axis=1).repeat(GRID // RISE_CELLS, axis=2)
    shifts = chance.integers(GRID // RISE_CELLS, size=(RISE_MASKS, 2))
    masks = np.stack([np.roll(mask, tuple(shift), (0, 1)) for mask, shift in zip(masks, shifts)]).astype(float)
    found = scores([image, *hidden(image, masks, fill)])
    changes, count = np.abs(found[1:] - found[0]), masks.sum(axis=0)
    return np.tensordot(changes, masks, 1) / count - np.tensordot(changes, 1 - masks, 1) / (len(masks) - count)


def combined(scores, image, fill="mean", seed=0):
    """The sum of `occlusion` and `rise`, each as shares of its largest value: about 195 images.

    A window finds where one thing is, random masks what is there in several places.

    Args:
        scores, image, fill, seed: as in `rise`.

    Returns:
        (GRID, GRID), at most 2.
    """
    return combine(occlusion(scores, image, fill), rise(scores, image, fill, seed))


def combine(*maps):
    return sum(values / (np.abs(values).max() or 1) for values in maps)


METHODS = {
    "occlusion": occlusion,
    "occlusion_fine": partial(occlusion, levels=FINE),
    "rise": rise,
    "combined": combined,
}


def windows(size, step, where):
    """Squares on the grid, also half outside of it: (n, GRID, GRID), 1 where they hide.

    Args:
        size, step: of the squares, in places.
        where: (GRID, GRID), true at the places of which a square must cover at least half of its own.
    """
    starts = range(step - size, GRID, step)
    masks = np.zeros((len(starts) ** 2, GRID, GRID))
    for mask, (top, left) in zip(masks, ((top, left) for top in starts for left in starts)):
        mask[max(0, top) : top + size, max(0, left) : left + size] = 1
    return masks[(masks * where).sum(axis=(1, 2)) * 2 >= masks.sum(axis=(1, 2))]


def hidden(image, masks, fill="mean"):
    """Copies of an image with places hidden.

    Args:
        image: RGB PIL image.
        masks: (n, h, w), 1 where it is hidden and 0 where not; stretched over the image.
        fill: "mean", the mean colour of the image, or "blur", the image too much blurred to be recognised.

    Returns:
        n PIL images of the same size.

    Raises:
        ValueError: no such fill, or an image that has fewer pixels than the masks places.
    """
    if fill not in FILLS:
        raise ValueError(f"fill must be one of {', '.join(FILLS)}; found {fill!r}")
    height, width = masks.shape[1:]
    if image.width < width or image.height < height:
        raise ValueError(
            f"expected an image of at least {width} x {height} pixels, as many as the masks have places; found "
            f"{image.width} x {image.height}"
        )
    pixels = np.asarray(image)  # (H, W, 3)
    if fill == "mean":
        other = np.broadcast_to(np.rint(pixels.mean(axis=(0, 1))).astype(np.uint8), pixels.shape)
    else:
        other = np.asarray(image.filter(ImageFilter.GaussianBlur(max(image.size) / BLUR)))
    rows, columns = np.arange(image.height) * height // image.height, np.arange(image.width) * width // image.width
    return [Image.fromarray(np.where(mask[rows][:, columns, None] > 0, other, pixels)) for mask in masks]

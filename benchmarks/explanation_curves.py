"""Deletion and insertion: how soon an answer goes when what a map names is hidden first, and comes when it is shown."""

import numpy as np
from PIL import Image

from dualvqa_light.hidden_places import FILLS, hidden
from dualvqa_light.hidden_words import find_words, without

STEPS = 10


def image_curves(scored, values, chance):
    """Probabilities of the answer as pixels are hidden, and as they are shown, those of the highest values first.

    Petsiuk et al. 2018, section 4.1, who delete to a plain colour and insert into a blurred image. Here both are done
    with both: a blurred image of a shape may still give the answer away.

    Args:
        scored: a `ScoredAnswer`.
        values: a map (h, w), spread over the image bilinearly.
        chance: numpy's generator, for the order of pixels of the same value.

    Returns:
        Fill -> "deletion" and "insertion" -> `STEPS` + 1 probabilities, of 0 .. 100 % of the pixels.
    """
    image, found = scored.image, {}
    spread = Image.fromarray(values.astype(np.float32)).resize(image.size, Image.Resampling.BILINEAR)
    order = np.lexsort((chance.random(image.width * image.height), -np.asarray(spread).ravel()))
    ranks = order.argsort().reshape(image.height, image.width) / order.size
    deleted = np.stack([ranks < step / STEPS for step in range(STEPS + 1)])  # (STEPS + 1, H, W)
    for fill in FILLS:
        scores = scored.of_images([*hidden(image, deleted, fill), *hidden(image, ~deleted, fill)])
        both = probability(scores).reshape(2, -1).tolist()
        found[fill] = dict(zip(("deletion", "insertion"), both))
    return found


def word_curves(scored, question, scores):
    """The same of words, as they are left out and as they are put into an empty question.

    A question without words can't be asked: the last of the one and the first of the other has one word.
    """
    words = find_words(question)
    order = np.argsort(-np.asarray(scores), kind="stable").tolist()
    asked = [without(question, words, order[:count]) for count in range(len(words))]
    asked += [without(question, words, order[count:]) for count in range(1, len(words) + 1)]
    found = probability(scored.of_questions(asked))
    return {"deletion": found[: len(words)].tolist(), "insertion": found[len(words) :].tolist()}


def probability(log_odds):
    return 1 / (1 + np.exp(-log_odds))


def area(curve):
    """Area under a curve over 0 .. 1, by trapezoids."""
    curve = np.asarray(curve)
    return float((curve[1:] + curve[:-1]).mean() / 2)


def gain(curves):
    """Insertion less deletion: 1 is the best there can be, 0 what a map has that says nothing.

    Args:
        curves: a dict with both, or fill -> such a dict: then the mean over the fills.
    """
    if "insertion" in curves:
        return area(curves["insertion"]) - area(curves["deletion"])
    return float(np.mean([gain(of_fill) for of_fill in curves.values()]))

"""An explanation as a plot: its maps over the image, its words in the colour of their scores."""

import math
import textwrap

import numpy as np
from matplotlib import colormaps, rc_context, rcParams
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from dualvqa_light.explanation import TINY
from dualvqa_light.hidden_places import METHODS
from dualvqa_light.hidden_words import find_words
from processing.image_loading_dualvqa import load_image
from processing.image_processing_dualvqa import seen_part

from .fonts import fallback_fonts, quiet_glyphs

# Viridis, less transparent the higher the value, so that the image is seen best where a map has nothing to say.
OVERLAY = colormaps["viridis"](np.linspace(0, 1, 256))
OVERLAY[:, 3] = np.linspace(0.3, 0.85, 256)
OVERLAY = ListedColormap(OVERLAY)
PANEL = 3.1  # inches
TITLE, LINE, SCALE = 0.5, 0.18, 0.85  # inches: above a panel, of a line above all of them, and of the colours below
COLUMNS = 2  # of panels
CHARACTERS = 33  # of the words below, per panel
MOST_WORDS, MOST_CHARACTERS = 150, 500  # of a question, below the maps and above them
BAR = f"0 .. 1 of the map's maximum; paler where log-odds change by less than {TINY}"
LEGEND = "what the answer's log-odds lose without the word: blue for the answer, red against it"
ONE_WORD = "one word alone can't be left out"
NO_SCORES = "the words have no scores"
TITLES = {
    "combined": "hidden in two ways",
    "occlusion": "hidden by a window",
    "occlusion_fine": "hidden by a window, finer",
    "rise": "hidden by chance",
    "grad_cam": "Grad-CAM",
    "layer_cam": "LayerCAM",
    "attention": "attention of the question",
}


def draw_explanation(explanation, image, path=None):
    """Draws the maps over the image, and below them the question's words in the colour of their scores.

    Args:
        explanation: what `explain` gave.
        image: what was explained: path, URL, PIL image, array or tensor. A map is stretched over all of it; that of
            gradients over the part that the model saw, its centre where the image processor crops.
        path: file to write; its ending says which kind.

    Returns:
        The matplotlib Figure.
    """
    with rc_context({"font.family": [*rcParams["font.family"], *fallback_fonts(said(explanation))]}), quiet_glyphs():
        figure = drawn(explanation, as_pixels(image))
        if path is not None:
            figure.savefig(path, dpi=150)
    return figure


def said(explanation):
    """All texts of an explanation that are of no fixed wording."""
    texts = [explanation.question, explanation.answer, *explanation.words]
    return "".join([*texts, *(remembered(example) for example in explanation.evidence or ())])


def drawn(explanation, pixels):
    """The figure, of pixels (H, W, 3)."""
    maps = explanation.maps
    panels, told = 1 + len(maps), explanation.word_scores is not None
    rows, columns = math.ceil(panels / COLUMNS), COLUMNS  # a page is about as wide as two panels
    lines = lay_out(explanation.words, explanation.word_scores, CHARACTERS * columns) if told else []
    question = explanation.question
    if len(question) > MOST_CHARACTERS:
        question = f"{question[:MOST_CHARACTERS]} ..."
    title = f"{question}  →  {explanation.answer} ({explanation.score:.1%})"
    cautions = [f"Mind: {caution}" for caution in explanation.cautions()]
    title = [title, *cautions, *(remembered(example) for example in explanation.evidence or ())]
    wrapped = "\n".join(textwrap.fill(line, CHARACTERS * columns) for line in title)
    panel = TITLE + PANEL * min(1, pixels.shape[0] / pixels.shape[1])  # no taller than a wide image needs
    heights = (LINE * (wrapped.count("\n") + 1) + panel * rows + SCALE, 0.3 + 0.5 * len(lines))
    figure = Figure(figsize=(PANEL * columns + 0.3, sum(heights)), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=heights)
    above.suptitle(wrapped, parse_math=False, fontsize="medium" if len(title) > 1 else None)
    places = above.subplots(rows, columns, squeeze=False).flatten()
    places[0].imshow(pixels)
    places[0].set_title("image", fontsize="medium")
    for axes, (name, values) in zip(places[1:], maps.items()):
        strength = min(1, explanation.changes.get(name, TINY) / TINY)
        shown = draw_map(axes, pixels, values, None if name in METHODS else explanation.crop, strength)
        axes.set_title(title_of(name, values, explanation.changes.get(name)), fontsize="medium")
    for axes in places:
        axes.set_axis_off()
    if maps:
        above.colorbar(shown, ax=places, location="bottom", shrink=0.75, aspect=40, label=BAR)
    words = below.subplots()
    words.set_title(legend_of(explanation.words) if lines else without_scores(question), fontsize="small", loc="left")
    draw_words(words, lines, CHARACTERS * columns)
    return figure


def title_of(name, values, change=None):
    """A map's kind and grid, and how much is behind its colours, which are the same for much and little."""
    if not values.any():
        return f"{TITLES[name]}, 0 everywhere"
    height, width = values.shape
    size = f"maximum {values.max():.2g}" if change is None else f"log-odds go up or down by up to {change:.2g}"
    return f"{TITLES[name]}, {height} × {width} places\n{size}"


def legend_of(words):
    left_out = len(words) - MOST_WORDS
    return LEGEND if left_out <= 0 else f"{LEGEND}\n(the first {MOST_WORDS} of {len(words):,} words)"


def without_scores(question):
    """Why the words have none."""
    return ONE_WORD if len(find_words(question)) < 2 else NO_SCORES


def remembered(example):
    """An example of the memory as a line."""
    name = f" ({example['image']})" if example["image"] else ""
    return f"remembered: {example['question']} → {example['answer']}{name}, {example['weight']:.0%} of the vote"


def as_pixels(image):
    """(H, W, 3) of an image of any kind, upright and as a person sees it."""
    return np.asarray(load_image(image))


def draw_map(axes, pixels, values, crop=None, strength=1):
    """A map (h, w) over the image in grey, as shares of its maximum; each place of the grid is one tile.

    What a `crop` cuts off stays without a map. The shares are multiplied by `strength`: nearly nothing is pale.
    """
    height, width = pixels.shape[:2]
    axes.imshow(Image.fromarray(pixels).convert("L"), cmap="gray", vmin=0, vmax=255)
    shares = strength * values.clip(0) / (values.max() if values.max() > 0 else 1)
    left, top, right, bottom = (edge - 0.5 for edge in seen_part(crop, width, height))
    shown = axes.imshow(
        shares, cmap=OVERLAY, vmin=0, vmax=1, extent=(left, right, bottom, top), interpolation="nearest"
    )
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return shown


def lay_out(words, scores, line_width):
    """Lines of words: lists of (text, share of the largest score, score, left edge, width).

    The score is a text, with as many decimals as show two digits of the largest; widths are in characters.
    """
    largest = np.abs(scores).max(initial=0) or 1
    decimals = max(0, 1 - math.floor(math.log10(largest)))
    lines, left = [], math.inf
    for text, score in zip(words[:MOST_WORDS], scores):
        number = f"{score:+.{decimals}f}"
        width = max(len(text), len(number) - 1) + 2
        if left + width > line_width:
            lines.append([])
            left = 0
        lines[-1].append((text, score / largest, number, left, width))
        left += width + 1
    return lines


def draw_words(axes, lines, line_width):
    """What `lay_out` gave, each word in a box, from blue (for the answer) to red (against it)."""
    for row, line in enumerate(lines):
        for text, share, number, left, width in line:
            color = colormaps["RdBu"](0.5 + share / 2)
            axes.add_patch(Rectangle((left, -row), width, 0.85, facecolor=color, edgecolor="lightgray"))
            middle = {"x": left + width / 2, "ha": "center", "va": "center", "parse_math": False}
            middle["color"] = "white" if abs(share) > 0.7 else "black"
            axes.text(y=0.58 - row, s=text, family=["monospace", *rcParams["font.family"][1:]], **middle)
            axes.text(y=0.2 - row, s=number, fontsize="x-small", **middle)
    axes.set(xlim=(-0.2, line_width + 0.2), ylim=(0.95 - max(1, len(lines)), 0.95))
    axes.set_axis_off()

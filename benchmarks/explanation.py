"""What explanations are worth on easy-VQA: does the map lie on the shape, and does it depend on what was learned?

python benchmarks/explanation.py --model runs/easy_vqa --output docs/results/explanation.md

Writes the tables to the output, and examples chosen by chance to the plot beside it. A few minutes on a CPU.
"""

import copy
import random
import sys
from pathlib import Path

import numpy as np
import torch
from measure import machine
from pages import ROOT, build_parser, command, table, write_page
from scipy.ndimage import maximum_filter
from scipy.stats import spearmanr

sys.path.insert(0, str(ROOT))

from matplotlib.figure import Figure

from dualvqa.trust.explanation_drawing import as_pixels, draw_map, draw_words, lay_out
from dualvqa.trust.gradients import explain_by_gradients as explain
from modeling_dualvqa import DualVQAForQuestionAnswering
from processing import DualVQAProcessor

NOTE = """# What explanations are worth

Written by

```bash
{command}
```

{machine}.

{images} test images of easy-VQA chosen by chance, one question by chance about each, the model's own
answer explained; {right:.1f} % of these answers are right.

## Does the map lie on the shape?

Images are {size} pixels wide; maps have {grids} places. *Share on the shape* is the mean share of a map's mass on the
pixels that differ from the background's colour. A map that is the same everywhere has *uniform*; *another image* is
the share of a map that belongs to one, what a habit of looking at the middle gains; *best* is the most that any map of
that grid could have. *Near it* counts the pixels within one place of the map's grid as well. *Pointing* is how often
the place with the map's maximum touches the shape (Zhang et al. 2016, with a place as tolerance), *by chance* how many
of the places do. A map that is 0 everywhere has no share and points nowhere. *Random weights* are the maps of the same
answers by a model that has learned nothing: what there is to see in the image alone.

{shares}
## Does it depend on what was learned?

Spearman's rank correlation of the places' values (of the words' scores) with those of the trained model, for the same
image, question and answer: mean ± standard deviation over {images} images and {seeds} random starts. A map that
only shows edges would stay as it is when weights are random (Adebayo et al. 2018); one that looks the same for *another
image* shows nothing of this one. Batch-norm statistics of random towers are those of the images. Maps that are the
same everywhere have no ranks and are left out: {left_out}.

{correlations}
Examples, the first of the {images} images. Words have their gradient times input, in units of the logit, blue where
it speaks for the answer and red where against it; questions in red are wrongly answered.

![Test images with their maps and words]({sheet})
"""
MAPS = {"Grad-CAM": "image_map", "LayerCAM": "detail_map", "attention": "attention_map"}
CHARACTERS = 66  # of words, beside one another


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


def localisation(maps, masks):
    """What the table says of maps (h, w) and the masks (H, W) of their shapes, in %; of images one after another."""
    found = {name: [] for name in ("on", "uniform", "other", "best", "near", "near uniform", "points", "chance")}
    for number, (values, mask) in enumerate(zip(maps, masks)):
        wide, places = near(mask, values.shape), touched(mask, values.shape)
        found["points"].append(bool(values.any() and places.flat[values.argmax()]))
        found["chance"].append(places.mean())
        if values.any():
            spread = over_pixels(values, mask)
            found["on"].append(spread[mask].sum())
            found["near"].append(spread[wide].sum())
            found["uniform"].append(mask.mean())
            found["near uniform"].append(wide.mean())
            cells = [over_pixels(one.reshape(values.shape), mask)[mask].sum() for one in np.eye(values.size)]
            found["best"].append(max(cells))
        other = maps[number - 1]
        if other.any():
            found["other"].append(over_pixels(other, mask)[mask].sum())
    return {name: 100 * float(np.mean(shares)) if shares else float("nan") for name, shares in found.items()}


def randomised(model, pixel_values, seed):
    """Part -> the model with random weights there: first behind the towers, then everywhere (Adebayo et al. 2018)."""
    torch.manual_seed(seed)
    fresh = DualVQAForQuestionAnswering(copy.deepcopy(model.config)).eval()
    for module in fresh.vision_encoder.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.train().momentum = 1.0  # one pass sets the statistics
    with torch.no_grad():
        fresh.vision_encoder(pixel_values)
    behind = copy.deepcopy(model)
    for name, part in fresh.named_children():
        if not name.endswith("_encoder"):
            behind.get_submodule(name).load_state_dict(part.state_dict())
    return {"fusion and heads random": behind, "everything random": fresh.eval()}


def correlation(one, other):
    """Spearman's, or None where one of both is the same everywhere."""
    one, other = np.ravel(one), np.ravel(other)
    return None if np.ptp(one) == 0 or np.ptp(other) == 0 else float(spearmanr(one, other).statistic)


def correlate(found, others, same_question=True):
    """Kind of map -> rank correlations of two lists of explanations, pair by pair."""
    kinds = {**MAPS, "words": "token_scores"} if same_question else MAPS
    pairs = {
        kind: [(getattr(a, name), getattr(b, name)) for a, b in zip(found, others)] for kind, name in kinds.items()
    }
    return {kind: [correlation(a, b) for a, b in of_kind if a is not None] for kind, of_kind in pairs.items()}


def randomisation(model, processor, rows, found, seeds):
    """Row of the table -> kind of map -> rank correlations with the trained model's; and a random model's maps."""
    pixel_values = processor(images=[path for path, _, _ in rows[:64]], return_tensors="pt")["pixel_values"]
    correlations = {}
    for seed in range(seeds):
        for part, changed in randomised(model, pixel_values, seed).items():
            of_changed = [
                explain((changed, processor), path, question, one.answer, one.question_type)
                for (path, question, _), one in zip(rows, found)
            ]
            untrained = of_changed  # in the end that of a model that is random everywhere
            for kind, values in correlate(found, of_changed).items():
                correlations.setdefault(part, {}).setdefault(kind, []).extend(values)
    correlations["trained, another image"] = correlate(found, found[1:] + found[:1], same_question=False)
    return correlations, untrained


def draw_sheet(rows, found, path, count):
    """Two lines an example: the image with its maps, and the words. As wide as a page, so letters stay readable."""
    kinds = [kind for kind, name in MAPS.items() if getattr(found[0], name) is not None]
    words = [lay_out(one.tokens, one.token_scores, CHARACTERS) for one in found[:count]]
    heights = [height for lines in words for height in (2.0, 0.35 + 0.42 * len(lines))]
    figure = Figure(figsize=(8, sum(heights) + 0.8), layout="constrained")
    grid = figure.add_gridspec(2 * count, 1 + len(kinds), height_ratios=heights)
    for number, ((source, _, truth), one, lines) in enumerate(zip(rows, found, words)):
        places = [figure.add_subplot(grid[2 * number, column]) for column in range(1 + len(kinds))]
        pixels = as_pixels(source)
        places[0].imshow(pixels)
        for place, kind in zip(places[1:], kinds):
            shown = draw_map(place, pixels, getattr(one, MAPS[kind]))
        for place, name in zip(places, ["image", *kinds]):
            place.set_title(name, fontsize="small")
        below = figure.add_subplot(grid[2 * number + 1, :])
        draw_words(below, lines, CHARACTERS)
        correct = one.answer == truth
        title = f"{one.question}  →  {one.answer} ({one.score:.0%})" + ("" if correct else f", correct: {truth}")
        below.set_title(title, fontsize="medium", loc="left", color="black" if correct else "firebrick")
        for place in (*places, below):
            place.set_axis_off()
    figure.colorbar(shown, ax=figure.axes, location="bottom", pad=0.01, aspect=30, label="0 .. 1 of the map's maximum")
    figure.savefig(path, dpi=150)


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="saved folder of a model trained on easy-VQA")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3, help="random starts")
    parser.add_argument("--examples", type=int, default=6, help="in the plot")
    args = parser.parse_args()
    rows = asked(args.images, seed=0)
    if not (args.model / "config.json").is_file():
        raise SystemExit(f"error: expected a saved model in {args.model}, found no config.json; `make demo` trains one")
    model = DualVQAForQuestionAnswering.from_pretrained(args.model)
    processor = DualVQAProcessor.from_pretrained(args.model)
    found = [explain((model, processor), path, question) for path, question, _ in rows]
    masks = [shape_mask(as_pixels(path)) for path, _, _ in rows]
    correlations, untrained = randomisation(model, processor, rows, found, args.seeds)
    lines = []
    for kind, name in MAPS.items():
        groups = {"all": (None, found), "yes/no": ("binary", found), "open-ended": ("open_ended", found)}
        for label, (types, explained) in {**groups, "all, random weights": (None, untrained)}.items():
            chosen = [number for number, one in enumerate(found) if types in (None, one.question_type)]
            maps = [getattr(explained[number], name) for number in chosen]
            if maps and maps[0] is not None:
                zero = sum(not values.any() for values in maps)
                shares = localisation(maps, [masks[number] for number in chosen])
                lines.append([kind, label, len(maps), zero, *(f"{share:.1f}" for share in shares.values())])
    head = ["map", "questions", "maps", "0 everywhere", "share on the shape, %", "uniform", "another image", "best"]
    head += ["near it, %", "uniform", "pointing, %", "by chance"]
    kinds = list(correlations["everything random"])
    cells, left_out = [], []
    for part, by_kind in correlations.items():
        cells.append([part])
        for kind in kinds:
            values = [value for value in by_kind.get(kind, []) if value is not None]
            cells[-1].append(f"{np.mean(values):+.2f} ± {np.std(values):.2f}" if values else "")
            left = len(by_kind.get(kind, [])) - len(values)
            left_out += [f"{left} of {kind} ({part})"] * (left > 0)
    shapes = {kind: getattr(found[0], name) for kind, name in MAPS.items()}
    grids = {kind: " × ".join(map(str, values.shape)) for kind, values in shapes.items() if values is not None}
    sheet = args.output.with_suffix(".png")
    text = NOTE.format(
        command=command(),
        machine=machine(),
        images=len(rows),
        right=100 * np.mean([one.answer == answer for one, (_, _, answer) in zip(found, rows)]),
        size=masks[0].shape[1],
        grids=", ".join(f"{size} ({kind})" for kind, size in grids.items()),
        shares=table(head, lines),
        seeds=args.seeds,
        left_out=", ".join(left_out) or "none",
        correlations=table(["rank correlation with the trained model's", *kinds], cells),
        sheet=sheet.name,
    )
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_page(args.output, text)
    draw_sheet(rows, found, sheet, min(args.examples, len(rows)))
    print(text)


if __name__ == "__main__":
    main()

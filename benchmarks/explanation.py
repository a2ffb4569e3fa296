"""What explanations are worth: do they point at what counts, would it change the answer, and was it learned?

python benchmarks/explanation.py --models runs/easy_vqa --rows runs/explanation --output docs/results/explanation.md

Needs models trained on easy-VQA, and with --radiology one of recipes/vqa_rad_small.yaml. Writes the tables to the
output, and the first examples to the plot beside it. What was measured is kept in --rows, so that an interrupted run
goes on where it was: about five seconds a question on a CPU. Its file times.jsonl has the times alone: without it they
are measured again, which takes two minutes, best on a machine with nothing else to do.
"""

import sys
from pathlib import Path

import numpy as np
from explanation_curves import area, gain
from measure import machine
from pages import ROOT, build_parser, command, table, write_page
from scipy.stats import spearmanr

sys.path.insert(0, str(ROOT))

from explanation_questions import asked
from explanation_rows import FEW, all_rows
from explanation_speed import time_table
from matplotlib.figure import Figure

from dualvqa.trust.explanation_drawing import as_pixels, draw_map, draw_words, lay_out
from dualvqa_light.hidden_places import FILLS
from dualvqa_light.hidden_words import find_words

NOTE = """# What explanations are worth

Written by

```bash
{command}
```

{machine}.

The models of easy-VQA are trained by `python run_vqa.py recipes/easy_vqa.yaml`, with `--seed 1 --output_dir
runs/easy_vqa_1` and `--seed 2 --output_dir runs/easy_vqa_2` for others than the demo's, that of radiology by
`recipes/vqa_rad_small.yaml`.

{asked}. One question by chance about each image, the model's own answer explained. `explain` makes the map
*occlusion*; *fine* hides over three times as many places, and *combined* is the sum of *occlusion* and *RISE*; [the
maps by name](../guides/explain.md). Windows were chosen on other images of easy-VQA, which are not among these.

## Does the map point at the shape?

Images of easy-VQA have one shape, and it covers {size:.1f} % of these. *Pointing* is how often the place with the
map's maximum touches it (Zhang et al. 2016, with a place as tolerance), *by chance* how many of the places do; places
are finer in some maps than in others. *Share* is how much of the map's mass is on the shape, *near it* with one place
around. With *random weights* a map shows what there is to see in the image alone.

{shapes}
## Would it change the answer?

Pixels are hidden from those with the highest values on, and the answer's probability falls: *deletion* is the area
under that curve. Shown from the highest on in an image that is all hidden, it rises: *insertion* (Petsiuk et al. 2018).
Both are done with the mean colour (*mean*) and with a blurred image (*blur*). *Gain* is insertion less deletion, mean
over both: 0 for a map that says nothing. Mean over the questions ± the standard deviation of the means of {seeds}
seeds, each with its own questions and masks.

{curves}
{trained} and the same questions for each: gain as mean ± standard deviation of the models' means, and
how many of the models have less of it by a map than by *occlusion*.

{models}
The gain by what the first model answers, and of models with random weights, which explain the first model's answers:

{groups}
## Which words?

The same with words that are left out: *deletion* from the highest score on until one is left, *insertion* from the
first on until all are there.

{words}
## Does it depend on what was learned?

Spearman's rank correlation of the places' values with those of the trained model, for the same image, question and
answer: mean ± standard deviation over questions and {seeds} random starts. A map that only shows edges would stay as
it is when weights are random (Adebayo et al. 2018). Batch-norm statistics of random towers are those of the images.

{correlations}
## How long does one take?

`explain(pipe, image, question)` as it comes: the answer, the map *occlusion* and the words, with {threads} threads.
Seconds, the median of {repeats} questions and their range, after one that isn't counted. PyTorch is the saved model
in fp32, the light runtime its export in 8 bits (`dualvqa export --quantization int8`).

{times}
## Examples

The first questions of the first model. Words have what the answer's log-odds lose without them, blue where they speak
for the answer and red where against it; questions in red are wrongly answered.

![Test images with their maps and words]({sheet})
"""
SHOWN = ("occlusion", "occlusion, fine", "LayerCAM", "Grad-CAM")  # in the plot
LEARNED = [name for name in FEW if name != "random"]
CHARACTERS = 66  # of words, beside one another
KINDS = {"yes": ("binary", "yes"), "no": ("binary", "no"), "open-ended": ("open_ended", None)}


def rows_of(found, model, part=None):
    """Seed -> rows of a model."""
    return {key[2]: rows for key, rows in found.items() if key[:2] == (model, part)}


def mean_and_spread(of_seeds):
    """ "mean ± spread" of lists of values, one a seed: the mean over all values, the deviation of the seeds' means."""
    means = [np.mean(values) for values in of_seeds if values]
    return f"{np.mean([value for values in of_seeds for value in values]):+.3f} ± {np.std(means):.3f}"


def shape_table(every, untrained):
    """Of the first model's rows, and of those that a model with random weights has for the same answers."""
    lines = []
    groups = [(name, every, name) for name in every[0]["maps"]]
    groups += [(f"{name}, random weights", untrained, name) for name in FEW if name in every[0]["maps"]]
    for label, rows, name in groups:
        told = [row["shape"][name] for row in rows]
        by_kind = [[row["shape"][name]["points"] for row in rows if is_kind(row, kind)] for kind in KINDS]
        shares = [100 * np.mean([one[field] for one in told if field in one]) for field in ("on", "near")]
        points = [[one["points"] for one in told], *by_kind]
        pointing = [100 * np.mean(values) if values else float("nan") for values in points]
        chance = 100 * np.mean([one["chance"] for one in told])
        lines.append([label, len(told), *(f"{value:.1f}" for value in (*pointing, chance, *shares))])
    return table(["map", "maps", "pointing, %", *KINDS, "by chance", "share, %", "near it, %"], lines)


def is_kind(row, kind):
    head, answer = KINDS[kind]
    return row["type"] == head and answer in (None, row["answer"])


def curve_table(found, models):
    """Deletion, insertion and gain of each map of each model; their gain by both fills."""
    lines = []
    for model in models:
        seeds = rows_of(found, model)
        for name in seeds[0][0]["curves"]:
            curves = [[row["curves"][name] for row in rows] for rows in seeds.values()]
            every = [one for of_seed in curves for one in of_seed]
            cells = [
                f"{np.mean([area(one[fill][part]) for one in every]):.3f}"
                for fill in FILLS
                for part in ("deletion", "insertion")
            ]
            gains = mean_and_spread([[gain(one) for one in of_seed] for of_seed in curves])
            lines.append([model, name, len(every), *cells, gains])
    head = [f"{part}, {fill}" for fill in FILLS for part in ("deletion", "insertion")]
    return table(["model", "map", "questions", *head, "gain"], lines)


def model_table(found, models):
    """Over trained models that were asked the same questions: those of the model that was asked fewest."""
    first = {model: rows_of(found, model)[0][0]["curves"] for model in models}
    names = [name for name in next(iter(first.values())) if all(name in curves for curves in first.values())]
    gains = {name: [mean_gain(found, models, model, name) for model in models] for name in names}
    lines = []
    for name, values in gains.items():
        less = sum(value < best for value, best in zip(values, gains["occlusion"]))
        cells = [f"{value:+.3f}" for value in values]
        lines.append(
            [name, *cells, f"{np.mean(values):+.3f} ± {np.std(values):.3f}", "" if name == "occlusion" else less]
        )
    return table(["gain of", *models, "mean", "less than occlusion"], lines)


def mean_gain(found, models, model, name):
    """Of one model, over the questions that all of some models were asked."""
    gains = []
    for seed, rows in rows_of(found, model).items():
        common = min(len(found[other, None, seed]) for other in models)
        gains += [gain(row["curves"][name]) for row in rows[:common]]
    return np.mean(gains)


def word_table(found, models):
    lines = []
    for model in models:
        seeds = rows_of(found, model)
        for name in seeds[0][0]["word curves"]:
            curves = [[row["word curves"][name] for row in rows if name in row["words"]] for rows in seeds.values()]
            every = [one for of_seed in curves for one in of_seed]
            cells = [f"{np.mean([area(one[part]) for one in every]):.3f}" for part in ("deletion", "insertion")]
            gains = mean_and_spread([[gain(one) for one in of_seed] for of_seed in curves])
            lines.append([model, name, len(every), *cells, gains])
    return table(["model", "words", "questions", "deletion", "insertion", "gain"], lines)


def group_table(found, model):
    lines = []
    for name in FEW:
        if name not in found[model, None, 0][0]["maps"]:  # a tower without finer feature maps has no LayerCAM
            continue
        cells = []
        for kind in KINDS:
            rows = [row for rows in rows_of(found, model).values() for row in rows if is_kind(row, kind)]
            cells.append(f"{np.mean([gain(row['curves'][name]) for row in rows]):+.3f}" if rows else "")
        for part in parts_of(found):
            cells.append(
                mean_and_spread(
                    [[gain(row["curves"][name]) for row in rows] for rows in rows_of(found, model, part).values()]
                )
            )
        lines.append([name, *cells])
    return table(["gain of", *KINDS, *parts_of(found)], lines)


def parts_of(found):
    return list(dict.fromkeys(part for _, part, _ in found if part))


def correlation_table(found, model):
    lines = []
    for part in parts_of(found):
        cells = []
        for name in LEARNED:
            if name not in found[model, None, 0][0]["maps"]:
                cells.append("")
                continue
            values = [
                correlation(own["maps"][name], other["maps"][name])
                for seed, rows in rows_of(found, model, part).items()
                for own, other in zip(found[model, None, seed], rows)
            ]
            values = [value for value in values if value is not None]
            cells.append(f"{np.mean(values):+.2f} ± {np.std(values):.2f} ({len(values)})" if values else "")
        lines.append([part, *cells])
    return table(["rank correlation (maps)", *LEARNED], lines)


def correlation(one, other):
    """Spearman's, or None where one of both is the same everywhere."""
    one, other = np.ravel(one), np.ravel(other)
    return None if np.ptp(one) == 0 or np.ptp(other) == 0 else float(spearmanr(one, other).statistic)


def draw_sheet(questions, rows, path):
    """Two lines an example: the image with its maps, and the words. As wide as a page, so letters stay readable."""
    kinds = [kind for kind in SHOWN if kind in rows[0]["maps"]]
    words = [words_of(row) for row in rows]
    heights = [height for lines in words for height in (2.0, 0.35 + 0.42 * len(lines))]
    figure = Figure(figsize=(8, sum(heights) + 0.8), layout="constrained")
    grid = figure.add_gridspec(2 * len(rows), 1 + len(kinds), height_ratios=heights)
    for number, ((source, _, truth), row, lines) in enumerate(zip(questions, rows, words)):
        places = [figure.add_subplot(grid[2 * number, column]) for column in range(1 + len(kinds))]
        pixels = as_pixels(source)
        places[0].imshow(pixels)
        for place, kind in zip(places[1:], kinds):
            shown = draw_map(place, pixels, np.array(row["maps"][kind]))
        for place, name in zip(places, ["image", *kinds]):
            place.set_title(name, fontsize="small")
        below = figure.add_subplot(grid[2 * number + 1, :])
        draw_words(below, lines, CHARACTERS)
        title = f"{row['question']}  →  {row['answer']}" + ("" if row["right"] else f", correct: {truth}")
        below.set_title(title, fontsize="medium", loc="left", color="black" if row["right"] else "firebrick")
        for place in (*places, below):
            place.set_axis_off()
    figure.colorbar(shown, ax=figure.axes, location="bottom", pad=0.01, aspect=30, label="0 .. 1 of the map's maximum")
    figure.savefig(path, dpi=110)


def words_of(row):
    words = [row["question"][slice(*word)] for word in find_words(row["question"])]
    return lay_out(words, np.array(row["words"]["some left out"]), CHARACTERS) if row["words"] else []


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="saved folders trained on easy-VQA")
    parser.add_argument("--radiology", type=Path, help="saved folder trained on VQA-RAD, with its report_rows.jsonl")
    parser.add_argument("--radiology_data", type=Path, help="folder with VQA-RAD's train.jsonl and images")
    parser.add_argument("--rows", type=Path, required=True, help="folder for what is measured")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--images", type=int, default=30, help="a seed; half of it of further and random models")
    parser.add_argument("--radiology_images", type=int, default=4, help="likewise of the radiology model")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=6, help="in the plot")
    args = parser.parse_args()
    for folder in [*args.models, *([args.radiology] if args.radiology else [])]:
        if not (folder / "config.json").is_file():
            raise SystemExit(f"error: expected a saved model in {folder}, found no config.json; `make demo` trains one")
    found, first = all_rows(args), args.models[0].name
    trained = [folder.name for folder in args.models]
    names = list(dict.fromkeys(model for model, _, _ in found))
    every = [row for rows in rows_of(found, first).values() for row in rows]
    untrained = [row for rows in rows_of(found, first, "everything random").values() for row in rows]
    told = []
    for name in names:
        rows = [row for rows in rows_of(found, name).values() for row in rows]
        told.append(f"{name} {len(rows)} ({100 * np.mean([row['right'] for row in rows]):.0f} % answered right)")
    sheet, examples = args.output.with_suffix(".png"), min(args.examples, args.images)
    text = NOTE.format(
        command=command(),
        machine=machine(),
        asked=f"Questions: {', '.join(told)}; {args.seeds} seeds of questions and masks",
        size=100 * np.mean([one["size"] for row in every for one in row["shape"].values() if "size" in one]),
        seeds=args.seeds,
        shapes=shape_table(every, untrained),
        curves=curve_table(found, names),
        trained=f"{len(trained)} models of easy-VQA, trained with seeds of their own," if trained[1:] else "One model",
        models=model_table(found, trained),
        groups=group_table(found, first),
        words=word_table(found, names),
        correlations=correlation_table(found, first),
        **time_table(args),
        sheet=sheet.name,
    )
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_page(args.output, text)
    draw_sheet(asked(args.images, 0)[:examples], found[first, None, 0][:examples], sheet)
    print(text)


if __name__ == "__main__":
    main()

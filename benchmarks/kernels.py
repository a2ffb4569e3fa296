"""How far frozen towers carry: kernel ridge regression on their states, alone and beside trained models of the folds.

python benchmarks/kernels.py --output docs/results/kernels.md --folds runs/presets/preset_[0-4]_0 \\
    --folds runs/presets/preset_[0-4]_1 --text_tower encoders/minilm-l6-h384-uncased \\
    --flags "--train_file vqa-rad/train.jsonl --image_dir vqa-rad --exclude_rows phrase_type=frame"

Each --folds names the saved models of one seed, trained with --folds and the --fold in their place; nothing is trained
here but the regressions, which have a closed form.
"""

import shlex
from copy import copy
from pathlib import Path

import numpy as np
from asked import load, outputs_of
from kernel_regression import INSIDE, LAYERS, PENALTY, WEIGHTS, WIDTH, Questions
from measure import machine
from pages import build_parser, command, table, write_page
from quantization import opened
from seeds import spread

SIDES, CELLS = (224, 320, 448), 3  # of the image in pixels, and along each side of what a stage is averaged over
STAGE_LAYER = 2  # the text tower's layer beside other stages of the image tower

NOTE = """# How far frozen towers carry, on new images

Written by

```bash
{command}
```

{rows:,} questions about {images:,} images, in {folds} folds by image; each is answered by what the other folds'
questions taught. *The models* are trained, without a memory, with {seeds} seeds. *Kernel* is ridge regression
(Saunders et al. 1998, lambda {penalty:g}) with k = c_q + w exp((c_q - 1) / {width}) exp((c_i - 1) / {width}): c_q is
the cosine of the mean token states of a layer of the pretrained text tower, 0 its embeddings, c_i that of the pooled
vectors of the pretrained image tower, both standardised by feature as the training folds have them; w is 0 for the
question alone, else {weight}. Its targets are one-hot vectors of the answers. Nothing of the towers is trained; the
models' router chooses the head. Layer and w *chosen inside* are those that did best on the training folds, each in
turn held out from the others. In a *mean* probabilities and scores between 0 and 1 count by half each. Accuracies in
%, mean ± standard deviation over the seeds; *difference* to the models in points, with the 95 % interval over
{resamples:,} resamples of the images.

{machine}.

"""
CUTS = """
## Other folds

The same kernels where the images are cut into folds by other seeds ({cuts}), told whether a question is one of yes and
no; mean ± standard deviation over the cuts.

"""
STAGES = """
## Other stages of the image tower

The same cuts and layer {layer} of the text tower, where c_i is that of other states of the untouched image tower: of
the last block at each of its resolutions, averaged over {cells} x {cells} cells of the image, which it sees in several
sizes.

"""
LIMIT = """
## What a higher figure would need

Of the {open_rows} open-ended questions {coverage:.1%} have an answer that the training folds know (by fold {low:.0%}
to {high:.0%}): the others are wrong whatever a model says. With the models' {open_ended:.1f} % of the open-ended
questions a routed accuracy of {goal:g} % needs {needed:.1f} % of the {binary_rows} yes/no questions, of which they
have {binary:.1f} %; with the highest open-ended figure of the first table, {best:.1f} %, it needs {best_needed:.1f}
%.
"""


def fold_rows(flags, folds):
    """The canonical rows of each fold, as the models of that fold are scored on them."""
    from dualvqa.run.arguments import parse_arguments
    from processing import prepare_datasets

    for fold in range(folds):
        _, data_args, _ = parse_arguments([*shlex.split(flags), "--folds", str(folds), "--fold", str(fold)])
        yield prepare_datasets(data_args, needs_training=True)[0]["validation"]


def mean_states(folder, questions):
    """Layer -> (n, C) mean token states of a pretrained text tower, without dropout."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, tower = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    different = sorted(set(questions), key=len)
    found = {}
    with torch.inference_mode():
        for start in range(0, len(different), 64):
            chunk = different[start : start + 64]
            inputs = tokenizer(chunk, padding=True, truncation=True, return_tensors="pt")
            mask = inputs["attention_mask"][..., None]
            states = tower(**inputs, output_hidden_states=True).hidden_states
            pooled = [(states[layer] * mask).sum(1) / mask.sum(1) for layer in LAYERS]
            found |= {text: [layer[row].numpy() for layer in pooled] for row, text in enumerate(chunk)}
    return {layer: np.stack([found[text][place] for text in questions]) for place, layer in enumerate(LAYERS)}


def pooled_images(model, processor, parts):
    """(n, C) the pooled vector of each question's image."""
    import torch

    found = {}
    for part in parts:
        for key, row in zip(part["image_key"], part):
            if key not in found:
                image = next(opened([row]))["image"]
                pixels = processor.image_processor([image], return_tensors="pt")["pixel_values"]
                with torch.inference_mode():
                    found[key] = model.encode_images(pixels)[0, 0].float().numpy()
    return np.stack([found[key] for part in parts for key in part["image_key"]])


def stage_images(model, processor, parts):
    """(pixels along a side, stride) -> (n, C) a stage's states of each question's image, averaged over a few cells."""
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    tower, found = next(part for part in model.modules() if hasattr(part, "forward_intermediates")), {}
    keys = [key for part in parts for key in part["image_key"]]
    for key, row in dict(zip(keys, (row for part in parts for row in part))).items():
        image = next(opened([row]))["image"]
        for side in SIDES:
            size = {"height": side, "width": side}
            pixels = processor.image_processor([image], size=size, return_tensors="pt")["pixel_values"]
            with torch.inference_mode():
                for states in tower.forward_intermediates(pixels, intermediates_only=True):
                    cells = adaptive_avg_pool2d(states[0], CELLS).flatten().numpy()
                    found.setdefault((side, round(side / states.shape[-1])), {})[key] = cells
    return {stage: np.stack([vectors[key] for key in keys]) for stage, vectors in found.items()}


def model_scores(folder, rows):
    """What a fold's model says of its rows: head -> probabilities (n, N), and the names of its open-ended answers."""
    from processing.answers import normalise_answer

    model, processor = load(folder)
    outputs = outputs_of(model, processor, rows)
    found = {name: outputs[f"{name}_logits"].float().softmax(-1).numpy() for name in HEADS}
    return {**found, "names": np.array([normalise_answer(answer) for answer in processor.answers])}


HEADS = ("binary", "open_ended", "question_type")
PRESET, SEEDS = "the models", "the mean of the models of all seeds"


def correctness(questions, seeds):
    """Name of a line -> (seeds, n) whether each question is answered right, routed; and the router's."""
    right = {}
    for fold in range(len(seeds[0])):
        asked = np.flatnonzero(questions.fold == fold)
        scores, names = questions.said(fold)
        outputs = [one[fold] for one in seeds]
        own = [[one["binary"], aligned(one, names)] for one in outputs]
        together = [np.mean(parts, axis=0) for parts in zip(*own)]
        for number, one in enumerate(outputs):
            said = {PRESET: own[number], SEEDS: together, **scores}
            said |= {f"mean of the model and {INSIDE}": halves(own[number], scores[INSIDE])}
            said |= {f"mean of all seeds' models and {INSIDE}": halves(together, scores[INSIDE])}
            route = one["question_type"].argmax(axis=1)
            for name, (binary, open_ended) in said.items():
                answer = best(route, binary, open_ended, names)
                line = right.setdefault(name, np.zeros((len(seeds), len(questions.answers))))
                line[number, asked] = answer == questions.answers[asked]
    return right


def known_type(questions):
    """Name of a line -> (3,) accuracies of yes/no, open-ended and all in %, of kernels that are told the type."""
    right = {}
    for fold in sorted(set(questions.fold)):
        asked = np.flatnonzero(questions.fold == fold)
        scores, names = questions.said(fold)
        for name, (binary, open_ended) in scores.items():
            answer = best(questions.types[asked], binary, open_ended, names)
            right.setdefault(name, np.zeros(len(questions.answers)))[asked] = answer == questions.answers[asked]
    kinds = [questions.types == 0, questions.types == 1, questions.types >= 0]
    return {name: [100 * line[kind].mean() for kind in kinds] for name, line in right.items()}


def staged(questions, stages):
    """Stage -> (3,) accuracies of yes/no, open-ended and all in %, of the kernel that sees the image by this stage."""
    kinds, found = np.bincount(questions.types), {}
    for stage, vectors in stages.items():
        other, right = copy(questions), [0, 0]
        other.image = vectors
        for fold in sorted(set(questions.fold)):
            asked, train = (np.flatnonzero(rows) for rows in (questions.fold == fold, questions.fold != fold))
            kernel = other.kernels(train)[STAGE_LAYER, WEIGHTS[-1]]
            right = [count + other.right(kernel, train, asked, kind) for kind, count in enumerate(right)]
        found[stage] = [100 * right[0] / kinds[0], 100 * right[1] / kinds[1], 100 * sum(right) / sum(kinds)]
    return found


def aligned(one, names):
    """A model's open-ended probabilities in the order of `names`, which has the same answers."""
    place = {name: column for column, name in enumerate(one["names"])}
    return one["open_ended"][:, [place[name] for name in names]]


def best(types, binary, open_ended, names):
    """(n,) the most probable answers of the heads that `types` names."""
    return np.where(types == 0, np.array(["no", "yes"])[binary.argmax(axis=1)], names[open_ended.argmax(axis=1)])


def halves(first, second):
    return [(a + b) / 2 for a, b in zip(first, second)]


def line_of(name, right, first, questions, bootstrap):
    """A line of the table."""
    kinds = [questions.types == 0, questions.types == 1, np.full(len(questions.types), True)]
    cells = [spread([100 * one[kind].mean() for one in right], 1) for kind in kinds]
    if right is first:
        return [name, *cells, ""]
    gain = bootstrap.mean((right - first).mean(axis=0))
    return [name, *cells, "{value:+.1f} ({low:+.1f} to {high:+.1f})".format(**{k: 100 * v for k, v in gain.items()})]


def over_cuts(cuts):
    """Lines of a table: a name, and mean ± standard deviation over the cuts of each figure."""
    return [[name, *(spread(values, 1) for values in zip(*(cut[name] for cut in cuts)))] for name in cuts[0]]


def limit(questions, right, goal):
    """What the text says of a routed accuracy of `goal` %."""
    kinds = questions.types
    known = np.zeros(len(kinds), dtype=bool)
    for fold in set(questions.fold):
        asked = (questions.fold == fold) & (kinds == 1)
        known[asked] = np.isin(questions.answers[asked], questions.answers[(questions.fold != fold) & (kinds == 1)])
    coverages = [known[(questions.fold == fold) & (kinds == 1)].mean() for fold in sorted(set(questions.fold))]
    open_ended = {name: 100 * line[:, kinds == 1].mean() for name, line in right.items()}
    highest, own = max(open_ended.values()), open_ended[PRESET]

    def needed(figure):
        return (goal * len(kinds) - figure * (kinds == 1).sum()) / (kinds == 0).sum()

    return LIMIT.format(
        open_rows=(kinds == 1).sum(),
        binary_rows=(kinds == 0).sum(),
        coverage=known[kinds == 1].mean(),
        low=min(coverages),
        high=max(coverages),
        open_ended=own,
        binary=100 * right[PRESET][:, kinds == 0].mean(),
        needed=needed(own),
        best=highest,
        best_needed=needed(highest),
        goal=goal,
    )


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--folds", nargs="+", action="append", required=True, help="each fold's model, for each seed")
    parser.add_argument("--text_tower", required=True, help="the pretrained text tower's folder")
    parser.add_argument("--flags", required=True, help="in quotes the flags that name the data")
    parser.add_argument("--cuts", type=int, nargs="+", default=[42, 7, 1], help="seeds of other folds")
    parser.add_argument("--goal", type=float, default=43, help="the routed accuracy that the text speaks of, in %%")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    from dualvqa.reporting.statistics import RESAMPLES, ImageBootstrap

    parts = list(fold_rows(args.flags, len(args.folds[0])))
    text = mean_states(args.text_tower, [question for part in parts for question in part["question"]])
    model, processor = load(args.folds[0][0])
    questions = Questions(parts, text, pooled_images(model, processor, parts))
    stages = stage_images(model, processor, parts)
    seeds = [[model_scores(folder, rows) for folder, rows in zip(folders, parts)] for folders in args.folds]
    right = correctness(questions, seeds)
    bootstrap = ImageBootstrap(questions.images)
    lines = [line_of(name, line, right[PRESET], questions, bootstrap) for name, line in right.items()]
    page = NOTE.format(
        command=command(),
        rows=len(questions.answers),
        images=len(set(questions.images)),
        folds=len(parts),
        seeds=len(seeds),
        penalty=PENALTY,
        width=WIDTH,
        weight=WEIGHTS[-1],
        resamples=RESAMPLES,
        machine=machine(),
    )
    page += table(["", "yes/no", "open-ended", "all", "difference"], lines)
    other = [questions.cut(seed) for seed in args.cuts]
    lines = over_cuts([known_type(cut) for cut in other])
    page += CUTS.format(cuts=", ".join(map(str, args.cuts))) + table(["", "yes/no", "open-ended", "all"], lines)
    lines = [[*stage, *cells] for stage, *cells in over_cuts([staged(cut, stages) for cut in other])]
    page += STAGES.format(layer=STAGE_LAYER, cells=CELLS)
    page += table(["pixels along a side", "stride", "yes/no", "open-ended", "all"], lines)
    page += limit(questions, right, args.goal)
    write_page(args.output, page)
    print(page)


if __name__ == "__main__":
    main()

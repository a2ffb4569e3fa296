"""Are images and questions of another kind noticed? Two saved models, each asked about the other's data and more.

python benchmarks/unfamiliar.py --output docs/results/unfamiliar.md \\
    --run easy-VQA runs/easy_vqa recipes/easy_vqa.yaml \\
    --run VQA-RAD runs/vqa_rad "recipes/vqa_rad.yaml --train_file ..."

Nothing is trained. Both folders were calibrated with --fit_familiarity.
"""

import json
import shlex
from pathlib import Path

import numpy as np
import torch
from asked import add_runs, load
from pages import build_parser, command, table, write_page
from PIL import Image, ImageDraw
from unfamiliar_inputs import other_images, other_questions

TOWERS = ("image", "question")
SUBSETS = {"nearest": [0], "far, near": [1, 2], "directions": None, "all": None}  # columns of the scores
FOLDS = 5
NOTE = """# Unfamiliar images and questions

Written by

```bash
{command}
```

Seed {seed}. Each model's folder was calibrated with `--fit_familiarity`, which fits each tower's familiarity to its
states of training inputs and of [made foreign ones](../guides/trust.md#unfamiliar-questions), and takes limits for 1 %
false alarms, half of them for each tower. *Image* and *question* are the shares in % that each tower flags,
*either* those of the two. An input is counted once, a question about no matter which image. No fit and no
limit has seen the kinds of this table, but for black and noise: a fit is shown other dark pictures and other noise.
Early trials looked at some of them: dark and light pictures were added to a fit after black ones had been missed,
questions about food, traffic and in German were scored while the made questions were written, and those that an
earlier fit missed had been read before everyday questions of more topics were. None of these is about food or traffic.
Discriminants of images that take the made kinds' covariances too, as those of questions do, were measured on this
table once; they were dropped, since of made kinds they found fewer (of dark pictures none by the model of shapes).

"""
FALSE = """
## False alarms

Questions about own images that the model was not trained on. Where the run has a test part, it is asked, with the
saved limits; else the held-out images in {folds} parts, each with limits that come without it. In %, with the 95 %
interval of binomial shares (Wilson 1927) that counts each image once.

"""
CHOICE = """
## Which scores

The choice was made on the made kinds, each with a fit that was not shown it, on new pictures and questions of the
kind: shares found in %, each set of scores with limits of its own. *far, near* is the distance from the mean on both
sides, *nearest* the cosine to the nearest kept training state, *directions* the discriminants of the other made
kinds; *all* is what is used. The ridge of the discriminants and the weight of the other scores were chosen by such
shares too. For questions the topics counted: of 24 topics of everyday questions, such as music, tools or minerals, a
quarter at a time was left out of the fit. Here *everyday* and *things* are left out one at a time, with all topics.

"""
PICTURES = """
## Pictures

Some inputs that were found (first row) and missed (second row, where any were):

"""


def wilson(share, count):
    """95 % interval of a share, in %."""
    z = 1.96
    middle, spread = (share + z * z / 2 / count), z * np.sqrt(share * (1 - share) / count + z * z / 4 / count**2)
    return tuple(100 * (middle + sign * spread) / (1 + z * z / count) for sign in (-1, 1))


class Measured:
    """A saved model with its states of everything that is measured.

    Args:
        name, folder, flags: of `--run`.
        rng: draws what is drawn.
        most: images and questions of a kind at most.
    """

    def __init__(self, name, folder, flags, rng, most):
        from dualvqa.run.arguments import parse_arguments
        from dualvqa.trust.familiarity_fitting import different, foreign_states, some
        from processing import VQACollator, prepare_datasets

        self.name, self.most = name, most
        self.model, self.processor = load(folder)
        self.limits = (self.processor.calibration or {}).get("familiarity") or {}
        if set(self.limits) != set(TOWERS):
            raise SystemExit(f"error: {folder} has no limits for image and question: calibrate with --fit_familiarity")
        parts, *_ = prepare_datasets(parse_arguments(shlex.split(flags))[1], needs_training=True)
        self.collator = VQACollator(self.processor)
        self.frozen = {"image": self.model.config.freeze_vision, "question": self.model.config.freeze_text}
        self.train, self.held_out = self.encoded(different(parts["train"])), self.encoded(some(parts["validation"]))
        self.has_test = "answer" in getattr(parts.get("test"), "column_names", ())
        self.rows = parts["test"] if self.has_test else parts["validation"]
        drawn = np.sort(rng.permutation(len(self.rows))[:most])
        self.rows = self.rows.select(drawn.tolist())
        self.asked = self.encoded(self.rows)
        self.foreign = foreign_states(self.model, self.processor)

    def encoded(self, rows):
        from dualvqa.trust.remembering import encoded_by

        return encoded_by(self.model, self.collator, self.processor, rows)

    def own(self):
        """tower -> (n, C) different training states."""
        return {"image": self.train["images"], "question": self.train["questions"]}

    def held(self, rows=slice(None)):
        """tower -> (h, C) of held-out images and of questions as they were asked; those of some rows."""
        images = self.held_out["image_index"][rows].unique()
        return {
            "image": self.held_out["images"][images],
            "question": self.held_out["questions"][self.held_out["question_index"][rows]],
        }

    @torch.inference_mode()
    def states(self, images=None, questions=None):
        """(n, C) of pictures or of questions."""
        from modeling_dualvqa.memory_examples_dualvqa import image_vectors, question_vectors

        found, given = [], images if questions is None else questions
        for start in range(0, len(given), 32):
            if questions is None:
                pixels = self.processor(images=given[start : start + 32], return_tensors="pt")["pixel_values"]
                found.append(image_vectors(self.model.encode_images(pixels)))
            else:
                batch = self.processor(text=given[start : start + 32], return_tensors="pt")
                found.append(question_vectors(self.model.encode_questions(**batch), batch["attention_mask"]))
        return torch.cat(found)

    def flagged(self, tower, states):
        """(n,) which states the saved folder flags, and their novelties."""
        novelty = self.model.familiarity[tower](states)
        return (~(novelty <= self.limits[tower])).numpy(), novelty.numpy()


def pictures_of(rows, most):
    """The first `most` different images of rows, as PIL images."""
    from datasets import Image as ImageFeature

    firsts = {}
    for number, key in enumerate(rows["image_key"][:]):
        firsts.setdefault(key, number)
    chosen = rows.select(list(firsts.values())[:most]).cast_column("image", ImageFeature())
    return [image.convert("RGB") for image in chosen["image"]]


def foreign_to(run, other, rng):
    """[kind, flagged images or None, flagged questions or None, novelties, inputs] for each kind of foreign input."""
    found = []
    images, questions = other.asked["images"], other.rows["question"][:]
    pictures = pictures_of(other.rows, min(300, run.most))
    pairs = {"image": run.states(images=pictures), "question": run.states(questions=questions)}
    by_tower = {tower: run.flagged(tower, states) for tower, states in pairs.items()}
    found.append([f"images of {other.name}", *by_tower["image"], "image", pictures])
    found.append([f"questions of {other.name}", *by_tower["question"], "question", questions])
    for kind, pictures in other_images(pictures_of(run.rows, min(200, run.most)), rng).items():
        found.append([f"{kind}", *run.flagged("image", run.states(images=pictures)), "image", pictures])
    for kind, asked in other_questions(sorted(set(run.rows["question"][:]))[:200], rng).items():
        found.append([f"{kind}", *run.flagged("question", run.states(questions=asked)), "question", asked])
    del images
    return found


def false_alarms(run):
    """Own questions that no limit has seen: "image" and "question" -> (n, 2) novelties and limits; and the images."""
    from dualvqa.trust.familiarity import fit_towers

    rows = run.asked if run.has_test else run.held_out
    image, question = rows["image_index"], rows["question_index"]
    found = {tower: np.full((len(image), 2), [0.0, np.inf]) for tower in TOWERS}  # without a limit nothing is flagged
    if run.has_test:
        for tower, states, index in (("image", rows["images"], image), ("question", rows["questions"], question)):
            found[tower][:, 0], found[tower][:, 1] = run.flagged(tower, states)[1][index], run.limits[tower]
    else:
        for fold in range(FOLDS):
            mine = (image % FOLDS == fold).numpy()
            fit, limits, _ = fit_towers(run.own(), run.foreign, run.held(~mine), run.frozen)
            states = {"image": rows["images"][image[mine]], "question": rows["questions"][question[mine]]}
            for tower in limits:
                found[tower][mine, 0], found[tower][mine, 1] = fit[tower](states[tower]).numpy(), limits[tower]
    return found, len(image.unique())


def choice(run, rng):
    """Rows of the table that the scores are chosen by."""
    from dualvqa.trust import foreign_inputs
    from dualvqa.trust.familiarity import FALSE_ALARMS, crossed_scores, fit_tower, limit_of, reference_novelties

    fresh = {
        "image": {kind: [make(rng, n) for n in range(16)] for kind, make in foreign_inputs.PICTURES.items()},
        "question": {kind: asked for kind, asked in foreign_inputs.foreign_questions().items()},
    }
    lines = []
    for tower in TOWERS:
        kinds, own, held = list(fresh[tower]), run.own()[tower], run.held()[tower]
        for place, kind in enumerate(kinds):
            others = [states for n, states in enumerate(run.foreign[tower]) if n != place]
            fit = fit_tower(tower, own, others)
            reference = fit.scores(held)
            if run.frozen[tower]:
                reference = torch.cat([reference, crossed_scores(tower, own, others)])
            given = {"images" if tower == "image" else "questions": fresh[tower][kind]}
            cells, states = [], run.states(**given)
            for name, columns in SUBSETS.items():
                columns = columns or list(range(3 if name == "directions" else 0, reference.shape[1]))
                limit, _ = limit_of(reference_novelties(fit, reference, columns), FALSE_ALARMS / 2)
                found = ((fit.scores(states) - fit.centre) * fit.scale)[:, columns].amax(dim=1)
                cells.append("-" if limit is None else f"{100 * (found > limit).float().mean():.1f}")
            lines.append([run.name, tower, kind, *cells])
    return lines


def draw_pictures(path, found):
    """A sheet of found and missed pictures of one model, the kind written above each."""
    rows = [[], []]
    for kind, over, _, tower, inputs in found:
        if tower == "image":
            for place, wanted in enumerate((True, False)):
                rows[place] += [(kind, inputs[n]) for n in np.flatnonzero(over == wanted)[:2]]
    rows = [row[:8] for row in rows if row]
    sheet = Image.new("RGB", (8 + 150 * max(map(len, rows)), 8 + 166 * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(rows):
        for x, (kind, picture) in enumerate(row):
            draw.text((8 + 150 * x, 4 + 166 * y), kind[:24], fill="black")
            sheet.paste(picture.resize((142, 142)), (8 + 150 * x, 20 + 166 * y))
    sheet.save(path)


def main():
    parser = build_parser(__doc__)
    add_runs(parser)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--values", type=Path, help="JSON file for every novelty and limit")
    parser.add_argument("--most", type=int, default=2000, help="own questions, and the other's, at most")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if len(args.run) != 2:
        parser.error(f"expected --run twice, found it {len(args.run)} times")
    rng = np.random.default_rng(args.seed)
    runs = [Measured(*run, rng, args.most) for run in args.run]
    kinds, alarms, chosen, shown, missed, values = [], [], [], [], [], []
    for run, other in zip(runs, runs[::-1]):
        found = foreign_to(run, other, rng)
        pair = f"images and questions of {other.name}"
        image, question = (found[n][1] for n in (0, 1))
        places = [np.resize(np.arange(len(flags)), len(question)) for flags in (image, question)]
        both = image[places[0]] | question[places[1]]
        shares = (f"{100 * part.mean():.1f}" for part in (image, question, both))
        kinds.append([run.name, pair, len(question), *shares])
        for kind, over, novelty, tower, inputs in found:
            share = f"{100 * over.mean():.1f}"
            kinds.append([run.name, kind, len(over), *((share, "-") if tower == "image" else ("-", share)), share])
            limit = run.limits[tower]
            values.append(
                {"model": run.name, "kind": kind, "novelty": novelty.tolist(), "limit": limit, "share": share}
            )
            if tower == "question":
                missed += [f"| {run.name} | {kind} | {inputs[n]} |" for n in np.flatnonzero(~over)[:3]]
        compared, images = false_alarms(run)
        over = {tower: ~(pairs[:, 0] <= pairs[:, 1]) for tower, pairs in compared.items()}
        over["either"] = over["image"] | over["question"]
        values.append(
            {"model": run.name, "kind": "own", "images": images} | {t: p.tolist() for t, p in compared.items()}
        )
        where = "test part" if run.has_test else f"held-out images in {FOLDS} parts"
        cells = [f"{100 * flags.mean():.2f} ({wilson(flags.mean(), images)[1]:.1f} at most)" for flags in over.values()]
        alarms.append([run.name, where, images, len(over["either"]), *cells])
        chosen += choice(run, rng)
        picture = args.output.with_name(f"{args.output.stem}_{run.name.lower().replace('-', '_')}.png")
        draw_pictures(picture, found)
        shown.append(f"{run.name}:\n\n![found and missed by {run.name}]({picture.name})\n")
    text = NOTE.format(command=command(), seed=args.seed)
    text += table(["model", "shown", "inputs", "image", "question", "either"], kinds)
    text += FALSE.format(folds=FOLDS)
    text += table(["model", "asked", "images", "questions", "image", "question", "either"], alarms)
    text += CHOICE + table(["model", "tower", "kind left out", *SUBSETS], chosen)
    text += PICTURES + "\n".join(shown) + "\nQuestions that were missed:\n\n"
    text += "| model | kind | question |\n| --- | --- | --- |\n" + "\n".join(missed) + "\n"
    write_page(args.output, text)
    if args.values:
        args.values.write_text(json.dumps(values))
    print(text)


if __name__ == "__main__":
    main()

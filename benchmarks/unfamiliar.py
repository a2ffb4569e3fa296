"""Are questions and images of another kind noticed? Two saved models, each asked about the other's data.

python benchmarks/unfamiliar.py --output docs/results/unfamiliar.md \\
    --run easy-VQA runs/easy_vqa recipes/easy_vqa.yaml \\
    --run VQA-RAD runs/vqa_rad "recipes/vqa_rad.yaml --train_file ..."

Nothing is trained. Folders that were trained or calibrated with --fit_familiarity have a distance to show.
"""

from pathlib import Path

import numpy as np
from abstention import halves
from asked import add_runs, load, outputs_of, rows_of
from pages import build_parser, command, table, write_page
from sklearn.metrics import roc_auc_score

FALSE_ALARMS = (0.01, 0.05)
NOTE = """# Unfamiliar images and questions

Written by

```bash
{command}
```

Each model is asked about its own data's test part (validation part, where there is none with answers), which it wasn't
trained on, and about the other's, up to {most} questions, drawn with seed {seed}; in the mixed cases images of one
and questions of the other are paired at random. *Distance* is the Mahalanobis distance of the fused state to the
training states, *energy* that of the logits of the head that answers, *either* the two together as a saved model's flag
takes them, *score* one less the answer's score. AUROC: how often a foreign question is the less familiar of a foreign
and an own one. Limits come from the questions about half of the own images, for 1 % and 5 % false alarms; *detected*
are the foreign questions beyond them, *false alarms* those about the other half of the own images, both in %.

"""


def draw(rows, most, rng):
    return rows.select(np.sort(rng.permutation(len(rows))[:most]).tolist())


def mixed(images, questions, rng):
    """Images of some rows with questions of others, without answers, paired at random."""
    count = min(len(images), len(questions))
    asked = questions["question"][:]
    paired = [asked[place] for place in rng.permutation(len(asked))[:count]]
    images = images.select(range(count)).select_columns(["image", "image_key", "row"])
    return images.add_column("question", paired)


def shares_above(values, reference):
    """For each value the share of the reference that isn't smaller, itself counted: a p-value."""
    reference = np.sort(reference)
    return (1 + len(reference) - np.searchsorted(reference, values, side="left")) / (len(reference) + 1)


def novelties(processor, outputs):
    """name -> (n,) values, larger for what is less familiar, of which energies are comparable within a head only."""
    found = {name: values.double().numpy() for name, values in processor.novelty(outputs).items()}
    best = processor.post_process_question_answering(outputs, abstain=False)
    return {**found, "score": 1 - np.array([items[0]["score"] for items in best])}


def p_values(found, reference):
    """score -> (n,) p-values of questions by those of the reference; a small one is unfamiliar."""
    energies = [name for name in found if name.endswith("_energy")]
    parts = []
    for name in energies:
        known = reference[name][np.isfinite(reference[name])]
        parts.append(np.where(np.isfinite(found[name]), shares_above(found[name], known), 1.0))
    values = {"energy": np.min(parts, axis=0)}  # the head that answers is the only one below 1
    if "distance" in found:
        distance = shares_above(found["distance"], reference["distance"])
        energy = values["energy"]
        values = {"distance": distance, **values, "either": np.minimum(1, 2 * np.minimum(distance, energy))}
    return {**values, "score": shares_above(found["score"], reference["score"])}


def cells(own, foreign):
    """AUROC, and at each level the shares of foreign and own questions that are flagged, in %."""
    truth = np.repeat([0, 1], [len(own), len(foreign)])
    rates = [f"{100 * (values <= level).mean():.1f}" for level in FALSE_ALARMS for values in (foreign, own)]
    return [f"{roc_auc_score(truth, -np.concatenate([own, foreign])):.3f}", *rates]


def main():
    parser = build_parser(__doc__)
    add_runs(parser)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--most", type=int, default=2000, help="questions of each kind")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if len(args.run) != 2:
        parser.error(f"expected --run twice, found it {len(args.run)} times")
    rng = np.random.default_rng(args.seed)
    rows = [draw(rows_of(flags), args.most, rng) for _, _, flags in args.run]
    lines = []
    for (name, folder, _), own, (other, _, _), foreign in zip(args.run, rows, args.run[::-1], rows[::-1]):
        model, processor = load(folder)
        cases = {
            f"images and questions of {other}": foreign.select_columns(["image", "image_key", "row", "question"]),
            f"own images, questions of {other}": mixed(own, foreign, rng),
            f"images of {other}, own questions": mixed(foreign, own, rng),
        }
        ((half, rest),) = halves(own["image_key"], 1, args.seed)
        known = novelties(processor, outputs_of(model, processor, own))
        reference = {key: values[half] for key, values in known.items()}
        ordinary = p_values({key: values[rest] for key, values in known.items()}, reference)
        for case, asked in cases.items():
            strange = p_values(novelties(processor, outputs_of(model, processor, asked)), reference)
            for score, values in strange.items():
                lines.append([name, case, len(asked), score, *cells(ordinary[score], values)])
    head = ["model", "asked about", "questions", "by", "AUROC"]
    for level in FALSE_ALARMS:
        head += [f"detected at {level:.0%}", f"false alarms at {level:.0%}"]
    text = NOTE.format(command=command(), most=args.most, seed=args.seed) + table(head, lines)
    write_page(args.output, text)
    print(text)


if __name__ == "__main__":
    main()

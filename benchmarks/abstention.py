"""Are scores true, and does the promised risk hold? Saved models on random halves of the images of their data.

python benchmarks/abstention.py --output docs/results/abstention.md --max_risk 0.01 0.05 0.1 \\
    --run easy-VQA runs/easy_vqa recipes/easy_vqa.yaml \\
    --run VQA-RAD runs/vqa_rad "recipes/vqa_rad.yaml --train_file ..."

Nothing is trained. The rows are the data's test part, or the validation part where there is none with answers.
"""

from pathlib import Path
from statistics import mean

import numpy as np
from asked import add_runs, load, outputs_of, rows_of
from pages import build_parser, command, table, write_page

NOTE = """# Calibration and abstention

Written by

```bash
{command}
```

Each of {splits} times half of the images is drawn (seed {seed}). On the questions about them temperatures are fitted
and a threshold is chosen, as a run does on its validation part; the figures are those of the questions about the other
half.

"""
ERRORS = """## Expected calibration error, %

Mean over the splits, before and after dividing by the temperatures. *All* is the score that a user gets, the router's
probability included. Open-ended answers that the vocabulary lacks count as wrong. A head with fewer than 50 questions
with an answer that it knows in the first half keeps temperature 1.

"""
PROMISE = """
## The promise: at most so many of the answers given are wrong

`--max_risk` with `--risk_confidence {confidence}`. Where no threshold could be shown to be good enough, nothing is
promised; *splits with a threshold* are the others. Of these, *kept* counts those in which the share of wrong answers
among those given to the other half was within the wanted risk. *Coverage* is the share of the other half's questions
that was answered and *wrong* the share of wrong ones among these answers, both the mean over the same splits.

"""
HEADS = {"binary": "yes/no", "open_ended": "open-ended", "question_type": "router", "routed": "all"}


def halves(images, splits, seed):
    """`splits` times the rows about a random half of the images, and the other rows."""
    rng = np.random.default_rng(seed)
    _, images = np.unique(images, return_inverse=True)
    count = images.max() + 1
    for _ in range(splits):
        half = np.isin(images, rng.permutation(count)[: count // 2])
        yield np.flatnonzero(half), np.flatnonzero(~half)


def part_of(labelled, rows):
    """The same for some of the rows."""
    from dualvqa.trust.calibration import LabelledLogits

    return LabelledLogits(
        labelled.processor,
        {name: logits[rows] for name, logits in labelled.outputs.items()},
        [labelled.references[row] for row in rows],
        [labelled.images[row] for row in rows],
    )


def measure(labelled, risks, confidence, splits, seed):
    """Errors before and after of each split, and for each wanted risk (coverage, risk) or None of each split."""
    from dualvqa.trust.abstention import NoThresholdError, choose_threshold, selective

    errors, found = [], {risk: [] for risk in risks}
    for rows, others in halves(labelled.images, splits, seed):
        chosen_on, checked_on = part_of(labelled, rows), part_of(labelled, others)
        heads = [head for head in labelled.heads if head not in chosen_on.problems()]
        temperatures = chosen_on.temperatures(heads)
        ranked = checked_on.ranked(temperatures)
        errors.append((checked_on.errors(checked_on.ranked({})), checked_on.errors(ranked)))
        here, there = chosen_on.routed(chosen_on.ranked(temperatures)), checked_on.routed(ranked)
        for risk in risks:
            try:
                chosen = choose_threshold(*here, chosen_on.images, risk, confidence)
            except NoThresholdError:
                found[risk].append(None)
            else:
                found[risk].append(selective(*there, chosen["threshold"]))
    return errors, found


def main():
    from dualvqa.trust.calibration import LabelledLogits

    parser = build_parser(__doc__)
    add_runs(parser)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--max_risk", type=float, nargs="+", default=[0.05, 0.1])
    parser.add_argument("--risk_confidence", type=float, default=0.95)
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    error_rows, promise_rows = [], []
    for name, folder, flags in args.run:
        rows, (model, processor) = rows_of(flags), load(folder)
        outputs = outputs_of(model, processor, rows)
        labelled = LabelledLogits(processor, outputs, rows["answer"], rows["image_key"])
        errors, found = measure(labelled, args.max_risk, args.risk_confidence, args.splits, args.seed)
        size = [name, f"{len(rows):,}", f"{len(set(labelled.images)):,}"]
        cells = []
        for head in HEADS:
            pairs = [[each.get(f"{head}_ece") for each in split] for split in errors]
            pairs = [pair for pair in pairs if None not in pair]
            cells.append(" → ".join(f"{100 * mean(side):.2f}" for side in zip(*pairs)) if pairs else "")
        error_rows.append([*size, *cells])
        for risk, splits in found.items():
            given = [split for split in splits if split is not None]
            kept = sum(wrong is None or wrong <= risk for _, wrong in given)
            answered = [wrong for _, wrong in given if wrong is not None]
            promise_rows.append(
                [
                    *size,
                    f"{risk:.1%}",
                    f"{len(given)} of {len(splits)}",
                    f"{kept} of {len(given)}" if given else "",
                    f"{mean(coverage for coverage, _ in given):.1%}" if given else "",
                    f"{mean(answered):.1%}" if answered else "",
                ]
            )
    text = NOTE.format(command=command(), splits=args.splits, seed=args.seed) + ERRORS
    text += table(["data", "questions", "images", *HEADS.values()], error_rows)
    text += PROMISE.format(confidence=args.risk_confidence)
    head = ["data", "questions", "images", "wanted risk", "splits with a threshold", "kept", "coverage", "wrong"]
    write_page(args.output, text + table(head, promise_rows))
    print(args.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

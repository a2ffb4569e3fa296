"""What out-of-fold scores can promise: models of cross-validation's folds on random halves of the images.

python benchmarks/abstention_folds.py --output docs/results/abstention_folds.md --folds runs/presets/preset_[0-4]_42 \\
    --flags "--train_file vqa-rad/train.jsonl --image_dir vqa-rad --exclude_rows phrase_type=frame"

Each folder is a saved model that was trained with --folds and the --fold in its place; nothing is trained here. The
models of benchmarks/cross_validation.py are such ones, if their folders are kept.
"""

import shlex
from pathlib import Path
from statistics import mean

import numpy as np
from abstention import halves
from asked import load, outputs_of
from measure import machine
from pages import build_parser, command, table, write_page

NOTE = """# Promises from folds

Written by

```bash
{command}
```

{rows:,} questions about {images:,} images, each answered by the one of {folds} models that wasn't trained on its image:
{right:.1%} right, {binary:.1%} of {binary_rows:,} answers of the yes/no head and {open_ended:.1%} of
{open_rows:,} of the other; {unknown:.1%} have a right answer that the head that answers doesn't know. Each of
{splits} times half of the images is drawn (seed {seed}). On the questions about them each model's temperatures
are fitted and everything is chosen; the figures are those of the questions about the other half.

{machine}.

"""
BOUND = """## Of the answers given at most so many are wrong

`--max_risk` with `--risk_confidence {confidence}`, the share that is observed among new answers. *Splits with a
threshold* are those in which one could be promised, and *kept* counts the splits of these where it was. *Coverage* is
the share of the other half's questions that was answered, *wrong* the share of wrong ones among these answers.
*Images* is the median of the projected numbers of images where there is none.

Where the search begins (at half of the wanted risk) and what it holds back were chosen by simulations and with the
splits of these questions in view: of others a few splits less may have a threshold. The halves of a split complete each
other: where a threshold is found by luck, the other half has the bad luck, as in the lines that few splits have a
threshold for.

"""
EXPECTED = """
## Of the questions asked so many get a wrong answer

`--risk_of questions`: conformal risk control, in expectation; over many splits *wrong of asked*, the mean over images
of the share of their questions that got a wrong answer, may be up to the wanted risk, single splits may be above it.

"""
SETS = """
## Sets with the right answer

`coverage=`: the mean over the splits of the share of questions whose right answer is in the set, in brackets the 5th
and 95th percentile; *size* is the mean number of answers. *Largest* is the largest coverage that can be promised, the
mean over the splits: right answers that the head doesn't know are in no set. APS are sets of the most probable answers
up to a total probability (Romano et al. 2020) in place of those with at least some score.

"""


def answered(folder, flags, folds, fold):
    """The labelled logits of one fold's questions, and their probabilities."""
    from dualvqa.run.arguments import parse_arguments
    from dualvqa.trust.calibration import LabelledLogits
    from processing import prepare_datasets

    words = [*shlex.split(flags), "--folds", str(folds), "--fold", str(fold)]
    _, data_args, _ = parse_arguments(words)
    rows = prepare_datasets(data_args, needs_training=True)[0]["validation"]
    model, processor = load(folder)
    card = model.config.model_card
    expected = f"fold {fold} of {folds} "
    if not any(name == "validation part" and value.startswith(expected) for name, value in card["settings"]):
        raise SystemExit(
            f"error: {folder} was not trained with --folds {folds} --fold {fold}: its scores promise nothing"
        )
    outputs = outputs_of(model, processor, rows)
    return LabelledLogits(processor, outputs, rows["answer"][:], rows["image_key"][:])


def judge(parts, rows):
    """All questions, with each model's temperatures fitted on some of them.

    Args:
        parts: the [`LabelledLogits`] of each fold.
        rows: (n,) numbers among all.
    """
    from dualvqa.trust.promises import Judged

    found, start = [], 0
    for part in parts:
        count = len(part.references)
        own = rows[(rows >= start) & (rows < start + count)] - start
        temperatures = part.temperatures(part.heads, own)
        found.append((Judged(part, temperatures), temperatures))
        start += count
    return found


def joined(found, name):
    return np.concatenate([getattr(one, name) for one, _ in found])


def sorted_scores(parts, found):
    """(n, N) scores of the head that answers, best first, the type's probability in them; and the right one's place."""
    scores, places = [], []
    for part, (judged, temperatures) in zip(parts, found):
        shares = (part.outputs["question_type_logits"].float() / temperatures.get("question_type", 1.0)).softmax(-1)
        for row, head in enumerate(judged.heads):
            own = (part.outputs[f"{head}_logits"][row].float() / temperatures.get(head, 1.0)).softmax(-1).numpy()
            order, label = np.argsort(-own, kind="stable"), int(part.labels[head][row])
            scores.append(own[order] * float(shares[row].max()))
            places.append(int(np.flatnonzero(order == label)[0]) if label >= 0 else -1)
    return scores, np.array(places)


def measure(parts, args):
    """What each split gave: one dict per split."""
    from dualvqa.trust.abstention import NoThresholdError, choose_threshold, selective
    from dualvqa.trust.prediction_sets import fit_sets
    from dualvqa.trust.risk_control import control_risk, per_image
    from dualvqa.trust.sample_size import images_for_threshold

    images = np.concatenate([part.images for part in parts])
    for here, there in halves(images, args.splits, args.seed):
        found = judge(parts, here)
        scores, right, reached, heads = (joined(found, name) for name in ("scores", "correct", "reached", "heads"))
        split = {"bound": {}, "expected": {}, "sets": {}, "largest": {}}
        for risk in args.max_risk:
            sample = scores[here], right[here], images[here], risk
            try:
                chosen = choose_threshold(*sample, args.risk_confidence)["threshold"]
                split["bound"][risk] = selective(scores[there], right[there], chosen)
            except NoThresholdError:
                split["bound"][risk] = images_for_threshold(*sample, args.risk_confidence)
        for risk in args.error_rate:
            try:
                chosen = control_risk(scores[here], right[here], images[here], risk)["threshold"]
            except NoThresholdError:
                split["expected"][risk] = None
                continue
            given = scores[there] >= chosen
            count, weights = per_image(images[there])
            wrong = float(((given & (right[there] < 1)) * weights).sum() / count)
            split["expected"][risk] = given.mean(), wrong, selective(scores[there], right[there], chosen)[1]
        ranked, places = sorted_scores(parts, found)
        totals = np.array([1.0 if at < 0 else row[: at + 1].sum() for row, at in zip(ranked, places)])
        for head in ("binary", "open_ended", None):
            rows, others = (part[(heads[part] == head) | (head is None)] for part in (here, there))
            fitted = fit_sets(reached[rows], images[rows])
            split["largest"][head] = fitted["largest"]
            beyond = np.where(places == 0, np.inf, 1 - totals)  # APS: a set has answers up to a total probability
            mass = fit_sets(np.where(places < 0, -np.inf, beyond)[rows], images[rows])
            for coverage in args.coverage:
                for kind, made in (("score", fitted), ("mass", mass)):
                    lowest = made["levels"].get(f"{coverage:g}")
                    if lowest is None:
                        continue
                    if kind == "score":
                        sizes = [max(1, int((ranked[row] >= lowest).sum())) for row in others]
                    else:
                        sizes = [max(1, int((np.cumsum(ranked[row]) <= 1 - lowest).sum())) for row in others]
                    held = [0 <= places[row] < size for row, size in zip(others, sizes)]
                    split["sets"][head, coverage, kind] = float(np.mean(held)), float(np.mean(sizes))
        yield split


HEADS = {"binary": "yes/no head", "open_ended": "open-ended head", None: "all"}


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--folds", nargs="+", required=True, help="the folder of each fold's model, in their order")
    parser.add_argument("--flags", required=True, help="in quotes the flags that name the data")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--max_risk", type=float, nargs="+", default=[0.3, 0.35, 0.4, 0.5, 0.6])
    parser.add_argument("--error_rate", type=float, nargs="+", default=[0.05, 0.1, 0.2])
    parser.add_argument("--coverage", type=float, nargs="+", default=[0.6, 0.8, 0.9, 0.95])
    parser.add_argument("--risk_confidence", type=float, default=0.95)
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    parts = [answered(folder, args.flags, len(args.folds), fold) for fold, folder in enumerate(args.folds)]
    everything = judge(parts, np.arange(sum(len(part.references) for part in parts)))
    right, heads, reached = (joined(everything, name) for name in ("correct", "heads", "reached"))
    splits = list(measure(parts, args))
    text = NOTE.format(
        command=command(),
        rows=len(right),
        images=len({image for part in parts for image in part.images}),
        folds=len(parts),
        right=right.mean(),
        binary=right[heads == "binary"].mean(),
        open_ended=right[heads != "binary"].mean(),
        binary_rows=(heads == "binary").sum(),
        open_rows=(heads != "binary").sum(),
        unknown=np.isneginf(reached).mean(),
        splits=args.splits,
        seed=args.seed,
        machine=machine(),
    )
    head = ["wanted risk", "splits with a threshold", "kept", "coverage", "wrong", "images"]
    text += BOUND.format(confidence=args.risk_confidence) + table(head, bound_rows(splits, args.max_risk))
    head = ["wanted risk", "splits with a threshold", "coverage", "wrong of asked", "wrong of answered"]
    text += EXPECTED + table(head, expected_rows(splits, args.error_rate))
    head = ["questions", "largest", "coverage", "splits", "found", "size", "found, APS", "size, APS"]
    text += SETS + table(head, set_rows(splits, args.coverage))
    write_page(args.output, text)
    print(args.output.read_text(encoding="utf-8"))


def bound_rows(splits, risks):
    for risk in risks:
        found = [split["bound"][risk] for split in splits]
        given = [one for one in found if isinstance(one, tuple)]
        needed = [one or np.inf for one in found if not isinstance(one, tuple)]
        kept = sum(wrong is None or wrong <= risk for _, wrong in given)
        middle = np.median(needed) if needed else np.nan
        yield [
            f"{risk:.0%}",
            f"{len(given)} of {len(found)}",
            f"{kept} of {len(given)}" if given else "",
            f"{mean(coverage for coverage, _ in given):.1%}" if given else "",
            f"{mean(wrong for _, wrong in given if wrong is not None):.1%}" if given else "",
            "" if not needed else f"{middle:,.0f}" if np.isfinite(middle) else "none in sight",
        ]


def expected_rows(splits, risks):
    for risk in risks:
        given = [split["expected"][risk] for split in splits if split["expected"][risk]]
        means = [mean(values) for values in zip(*given)] if given else []
        yield [f"{risk:.0%}", f"{len(given)} of {len(splits)}", *(f"{value:.1%}" for value in means)]


def set_rows(splits, coverages):
    for head, name in HEADS.items():
        largest = f"{mean(split['largest'][head] for split in splits):.1%}"
        for coverage in coverages:
            line = [name, largest, f"{coverage:.0%}"]
            for kind in ("score", "mass"):
                found = [
                    split["sets"][head, coverage, kind] for split in splits if (head, coverage, kind) in split["sets"]
                ]
                line += [f"{len(found)} of {len(splits)}"] if kind == "score" else []
                if not found:
                    line += ["", ""]
                    continue
                low, high = np.percentile([held for held, _ in found], [5, 95])
                line += [
                    f"{mean(h for h, _ in found):.1%} ({low:.1%} to {high:.1%})",
                    f"{mean(s for _, s in found):.2f}",
                ]
            yield line


if __name__ == "__main__":
    main()

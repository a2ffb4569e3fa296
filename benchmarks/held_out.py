"""What a run without a recipe reaches by each way to hold out, with and without a memory, beside copying.

python benchmarks/held_out.py --ways wording image --runs runs/held_out --output docs/results/held_out.md
    [--folds 5] [--jobs 2] --flags --train_file vqa-rad/train.jsonl --image_dir vqa-rad ...

With --folds each question is held out once for each seed, in place of a share of them. A run that is finished already
is not run again.
"""

import json
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure import machine
from pages import ROOT, build_parser, command, table, write_page
from seeds import spread

COLUMNS = {
    "without": "heads alone",
    "with": "with memory",
    "copied": "copied",
    "same": "same image",
    "majority": "majority",
    "router": "router right",
}
MACHINE = "machine.txt"  # of a run: pages may be written elsewhere
NOTE = (
    "Each run trains without a recipe, {held}, and scores it. *Heads alone* and *with memory* are of the same model, "
    "routed: the model chooses the head. The parameters of the memory are fitted on the held-out questions, and each "
    "of these is answered with parameters fitted on those about other images. *Copied* is the answer of the training "
    "question whose words are most similar, about whatever image; *same image* that of the most similar one about the "
    "same image. *Majority* is the most frequent training answer of the true type. All questions, in %, mean ± "
    "standard deviation over the seeds {seeds}."
)
SHARE = "holds out {share:.0%} of what its way can hold out, drawn anew for each seed"
FOLDS = "holds out one of {folds} folds, cut anew for each seed"


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--ways", nargs="+", default=["wording", "question", "image"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 0, 1])
    parser.add_argument("--share", type=float, default=0.15)
    parser.add_argument("--folds", type=int, help="hold out every question once, in place of a share of them")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--flags", nargs="...", default=[])
    args = parser.parse_args()
    held = FOLDS.format(folds=args.folds) if args.folds else SHARE.format(share=args.share)
    seeds = ", ".join(map(str, args.seeds))
    note = textwrap.fill(NOTE.format(held=held, seeds=seeds), 120)
    places = [(way, seed, fold) for way in args.ways for seed in args.seeds for fold in range(args.folds or 1)]
    lines = []
    with ThreadPoolExecutor(args.jobs) as pool:
        pending = {place: pool.submit(measure, args, *place) for place in places}
        for way in args.ways:
            runs = [[pending[way, seed, fold].result() for fold in range(args.folds or 1)] for seed in args.seeds]
            pooled = [together(run) for run in runs]
            questions = ", ".join(str(run["questions"]) for run in pooled)
            columns = columns_of(pooled)
            lines.append([way, questions, *("-" if None in column else spread(column, 1) for column in columns)])
            found = "; ".join(sorted({fold["machine"] for run in runs for fold in run}))
            text = f"{table(['held out by', 'questions', *COLUMNS.values()], lines)}\n{note}\n\n{found}.\n"
            write_page(args.output, f"# Three ways to hold out\n\nWritten by\n\n```bash\n{command()}\n```\n\n{text}")
    print(text)


def together(folds):
    """The figures of one seed's folds, each weighted by its questions."""
    questions = sum(fold["questions"] for fold in folds)

    def mean(name):
        values = [fold[name] for fold in folds]
        return None if None in values else sum(f["questions"] * v for f, v in zip(folds, values)) / questions

    return {"questions": questions, **{name: mean(name) for name in COLUMNS}}


def columns_of(runs):
    return [[run[name] for run in runs] for name in COLUMNS]


def measure(args, way, seed, fold):
    """What one run reached, in %."""
    folder = args.runs / (f"{way}_{seed}_{fold}" if args.folds else f"{way}_{seed}")
    if not (folder / "report.json").exists():
        held = ["--folds", str(args.folds), "--fold", str(fold)] if args.folds else []
        held = held or ["--validation_fraction", str(args.share)]
        ours = ["--split_by", way, *held, "--split_seed", str(seed), "--seed", str(seed)]
        start = [sys.executable, "-m", "dualvqa", "train", "--do_eval", "--memory", "--output_dir", str(folder)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "log.txt", "w", encoding="utf-8") as log:
            done = subprocess.run([*start, *ours, *args.flags], env=environment, stdout=log, stderr=log)
        if done.returncode:
            raise SystemExit(f"a run failed, see {folder / 'log.txt'}")
        (folder / MACHINE).write_text(f"{machine(gpu=True)}; {args.jobs} runs at a time", encoding="utf-8")
    part = json.loads((folder / "report.json").read_text())["parts"]["validation"]
    memory = json.loads((folder / "config.json").read_text())["model_card"]["memory"]
    if memory is None:
        raise SystemExit(f"{folder}: too few questions are held out to fit a memory's parameters: raise --share")
    shares = {name: part["accuracy"][name]["all"]["value"] for name in ("copied", "majority")}
    shares |= {"without": memory["without"], "with": memory["with"], "router": part["router_accuracy"]["value"]}
    shares["same"] = part["same_image"] and part["same_image"]["accuracy"]["copied_same_image"]["value"]
    percent = {name: None if share is None else 100 * share for name, share in shares.items()}
    return {**percent, "questions": memory["rows"], "machine": (folder / MACHINE).read_text(encoding="utf-8")}


if __name__ == "__main__":
    main()

"""What each part of a recipe is worth, by cross-validation over images and several seeds.

python benchmarks/cross_validation.py --output docs/results/vqa_rad_small.md
    [--arms recipe "no averaging" ...] [--seeds 3] [--folds 5 --rounds 5 --jobs 2] [--flags FLAGS OF run_vqa.py ...]

benchmarks/cross_validation.yaml says what the arms are: changes to its recipe. In another --plan an arm may have
a recipe of its own, or none. Every image is in one of --folds folds; a model is scored on a fold that it wasn't trained
on. Of each seed --rounds folds are run, the next seed beginning one fold later, the same ones for all arms. Runs go to
runs/cross_validation; one that is finished is not run again.
"""

import argparse
import contextlib
import json
import logging
import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean, stdev

import yaml
from ablation import SEEDS, check_rows
from ablation_tables import verdict_on
from alone import FORKS
from measure import machine
from pages import ROOT, build_parser, command, table, write_page
from quantization import rows_of
from seeds import KINDS, TYPES

sys.path.insert(0, str(ROOT))

# No fold chooses the model that it scores: the last state is scored.
LAST = "--eval_strategy no --load_best_model_at_end false --early_stopping_patience 0".split()
QUIET = "--disable_tqdm true --report false --calibrate false --do_predict false".split()
USAGE = "usage.json"  # the last file of a finished run
NOTE = """# {title}

Written by

```bash
{command}
```

{about}
Each image, with all its questions, is in one of {folds} folds, and a model answers questions about a fold that it
wasn't trained on; nothing is chosen by that fold, the last state of training is scored. Seeds {seeds}, of which each
has {rounds} of the folds, with {scored} questions; the folds are cut alike for all seeds (`--split_seed`), so ± leaves
out what another cut would change. Accuracies in % are those of all these questions together, mean ±
standard deviation over the seeds, routed (the model chooses the head; *router*: how often the right one). *Difference*
is the arm's accuracy less that of the first line, of the same seeds and folds; it is *significant* where the 95 %
interval of its mean (Student's t over the seeds) leaves zero out. *Processor* is the processor time of one training,
all threads together.

{machine}; {jobs} runs at a time with one thread each.

"""


def plan(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def own_flags(part):
    """What an arm, or the whole plan, has under `flags`, as on the command line."""
    flags = []
    for name, value in part.get("flags", {}).items():
        flags += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return flags


def flags_of(arm, seed, fold, folds, extra, path=None):
    """Flags of run_vqa.py for one run: the command line's, and the arm's over them.

    Args:
        path: function of another arm's name that gives the folder of its run with this seed and fold.
    """
    flags = [*LAST, *QUIET, "--seed", str(seed), "--folds", str(folds), "--fold", str(fold), *extra]
    flags += own_flags(arm)
    if "teacher" in arm:
        flags += ["--teacher", *(str(path(name)) for name in arm["teacher"])]
    if "members" in arm:
        first, *others = (str(path(name)) for name in arm["members"])
        return [*flags, "--do_train", "false", "--model_name_or_path", first, "--ensemble_with", *others]
    settings = [f"{name}={json.dumps(value)}" for name, value in arm.get("config", {}).items()]
    return [*flags, *(["--config", *settings] if settings else [])]


def recipe_of(arm, wanted):
    """The recipe of an arm, as a list: its own or that of the plan; [] where that is null, and a preset is chosen."""
    recipe = arm.get("recipe", wanted["recipe"])
    return [str(ROOT / recipe)] if recipe else []


def run(recipe, folder, flags):
    """One run in this process, unless it is finished; gives its figures.

    Args:
        recipe: list of the recipe, or an empty one.
    """
    if not (folder / USAGE).exists():
        import torch

        from dualvqa.run import main as run_vqa

        torch.set_num_threads(1)
        folder.mkdir(parents=True, exist_ok=True)
        logging.getLogger().handlers.clear()  # that of the run before writes to its own file
        started = time.process_time()
        with open(folder / "log.txt", "w", encoding="utf-8") as log, contextlib.redirect_stdout(log):
            try:
                run_vqa.main([*recipe, "--output_dir", str(folder), *flags])
            except SystemExit as error:
                raise RuntimeError(f"a run failed: {error.code}, see {folder / 'log.txt'}") from error
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        (folder / USAGE).write_text(json.dumps({"processor_seconds": time.process_time() - started}))
    return json.loads((folder / "all_results.json").read_text()) | json.loads((folder / USAGE).read_text())


def pooled(found, counts):
    """Accuracies in % of one seed's folds together, by (kind, type), and that of the "router".

    Args:
        found: the figures of each fold.
        counts: of each fold, type -> number of questions.
    """
    accuracies = {}
    for kind in KINDS:
        if f"eval_{kind}_accuracy" not in found[0]:  # without training nothing is known to be frequent
            continue
        for name, figure in TYPES.items():
            right = sum(one[f"eval_{kind}_{figure}"] * count[name] for one, count in zip(found, counts))
            accuracies[kind, name] = 100 * right / sum(count[name] for count in counts)
    right = sum(one["eval_router_accuracy"] * count["all"] for one, count in zip(found, counts))
    return {**accuracies, "router": 100 * right / sum(count["all"] for count in counts)}


def counts_of(rows):
    """How many questions of each type there are."""
    from processing.answers import consensus, question_type_of

    types = [question_type_of(consensus(answer)) for answer in rows["answer"]]
    return {"yes/no": types.count(0), "open-ended": types.count(1), "all": len(types)}


def spread(values):
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def lines_of(arms, found, seeds, counts):
    """Lines of the table, for the arms whose runs are all there."""
    first, lines = None, []
    for name, arm in arms.items():
        if not all((name, seed) in found for seed in seeds):
            continue
        accuracies = [pooled(found[name, seed], counts[seed]) for seed in seeds]
        points = [one["routed", "all"] for one in accuracies]
        first = first or points
        gains = [b - a for a, b in zip(first, points)]
        significant = "" if points is first else "no" if verdict_on(gains) == "undecided" else "yes"
        seconds = [one["processor_seconds"] for seed in seeds for one in found[name, seed]]
        cells = [spread([one["routed", kind] for one in accuracies]) for kind in TYPES]
        cells += [spread([one["oracle", "all"] for one in accuracies]), spread([one["router"] for one in accuracies])]
        gain = "" if points is first else f"{mean(gains):+.1f}" + (f" ± {stdev(gains):.1f}" if len(gains) > 1 else "")
        lines.append([arm["label"], *cells, gain, significant, f"{mean(seconds):.0f}"])
        if points is first:
            majority = [[one["majority", kind] for one in accuracies] for kind in TYPES]
    if first:
        lines.append(["always the most frequent answer of the true type", *map(spread, majority), "", "", "", "", ""])
    return lines


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--plan", type=Path, default=Path(__file__).with_suffix(".yaml"))
    parser.add_argument("--arms", nargs="+", help="default: all of the plan")
    parser.add_argument("--seeds", type=int, default=3, help=f"how many of {', '.join(map(str, SEEDS))}")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--rounds", type=int, help="folds that are run of each seed; all when left out")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs/cross_validation")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="more flags of run_vqa.py, for all runs")
    args = parser.parse_args()
    wanted = plan(args.plan)
    check_rows(args.arms or [], wanted["arms"])
    arms = {name: wanted["arms"][name] for name in args.arms or wanted["arms"]}
    for name, arm in arms.items():
        for other in [*arm.get("teacher", []), *arm.get("members", [])]:
            if list(arms).index(name) <= (list(arms).index(other) if other in arms else len(arms)):
                raise SystemExit(f"error: {name!r} needs {other!r} before it; add it to --arms")
    seeds = SEEDS[: args.seeds]
    args.flags = [*own_flags(wanted), *args.flags]
    rounds = min(args.rounds or args.folds, args.folds)
    folds = {seed: [(number + n) % args.folds for n in range(rounds)] for number, seed in enumerate(seeds)}
    sizes = {}
    for fold in sorted({fold for several in folds.values() for fold in several}):
        flags = flags_of({}, 0, fold, args.folds, args.flags)
        sizes[fold] = counts_of(rows_of([*recipe_of({}, wanted), *flags, "--output_dir", "runs/x"]))
    counts = {seed: [sizes[fold] for fold in several] for seed, several in folds.items()}
    text = NOTE.format(
        title=wanted["title"],
        about=wanted["about"].strip(),
        command=command(),
        machine=machine(),
        folds=args.folds,
        rounds=rounds,
        scored=", ".join(str(sum(count["all"] for count in counts[seed])) for seed in seeds),
        seeds=", ".join(map(str, seeds)),
        jobs=args.jobs,
    )
    head = ["", *TYPES, "all, oracle", "router", "difference", "significant", "processor, s"]
    places = [(seed, fold) for seed in seeds for fold in folds[seed]]

    def path(name, seed, fold):
        return args.runs / f"{name.replace(' ', '_')}_{fold}_{seed}"

    with ProcessPoolExecutor(args.jobs, mp_context=FORKS) as pool:
        pending = {}
        for name, arm in arms.items():
            for others in (arm.get("teacher", []), arm.get("members", [])):  # arms before it in the plan
                for key in [(other, *place) for other in others for place in places]:
                    pending[key].result()
            for seed, fold in places:
                own = partial(path, seed=seed, fold=fold)
                flags = flags_of(arm, seed, fold, args.folds, args.flags, own)
                pending[name, seed, fold] = pool.submit(run, recipe_of(arm, wanted), own(name), flags)
        found = {}
        for name in arms:
            for seed in seeds:
                found[name, seed] = [pending[name, seed, fold].result() for fold in folds[seed]]
            lines = lines_of(arms, found, seeds, counts)
            print(table(head, lines[-2:-1]), flush=True)
            write_page(args.output, text + table(head, lines))


if __name__ == "__main__":
    main()

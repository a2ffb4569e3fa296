"""One recipe with several seeds: accuracies as mean ± standard deviation, in a Markdown table.

python benchmarks/seeds.py recipes/easy_vqa.yaml --seeds 42 0 1 --output runs/seeds/easy_vqa [flags of run_vqa.py]

The runs go to OUTPUT_SEED, the table to OUTPUT.md. A run that is finished already is not run again.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

import torch
from pages import ROOT, build_parser

TYPES = {"yes/no": "binary_accuracy", "open-ended": "open_ended_accuracy", "all": "accuracy"}
KINDS = ("routed", "oracle", "majority")


def run(recipe, folder, flags, threads=None):
    """The figures of one run of `recipe`, from its folder if it is finished; with so many threads, or all."""
    results = folder / "all_results.json"
    if not results.exists():
        command = [sys.executable, str(ROOT / "run_vqa.py"), recipe, "--output_dir", str(folder), *flags]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)} if threads else None
        subprocess.run(command, check=True, env=environment)
    return json.loads(results.read_text())


def spread(values, digits):
    """Mean and, of several values, standard deviation."""
    return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def table(runs, seeds):
    """Markdown: a row for each way of choosing the head, a column for each question type."""
    part = "test" if "test_routed_accuracy" in runs[0] else "eval"
    lines = ["| accuracy, % | " + " | ".join(TYPES) + " |", "|---" * (len(TYPES) + 1) + "|"]
    for kind in KINDS:
        chosen = runs if kind != "majority" else runs[:1]
        keys = [f"{part}_{kind}_{name}" for name in TYPES.values()]
        lines.append(f"| {kind} | " + " | ".join(spread([100 * r[key] for r in chosen], 2) for key in keys) + " |")
    numbers = " ".join(map(str, seeds))
    lines += [
        "",
        f"{'Test' if part == 'test' else 'Validation'} part, {len(runs)} run{'s' * (len(runs) > 1)} (seed {numbers}); "
        f"coverage of the open-ended answers {100 * runs[0][f'{part}_coverage']:.1f} %; training took "
        f"{spread([r['train_runtime'] / 60 for r in runs], 1)} minutes on {os.cpu_count()} cores "
        f"({platform.machine()}, torch {torch.__version__}).",
    ]
    return "\n".join(lines) + "\n"


def main():
    parser = build_parser(__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 0, 1])
    parser.add_argument("--output", type=Path, required=True)
    args, flags = parser.parse_known_args()
    runs = []
    for seed in args.seeds:
        folder = args.output.with_name(f"{args.output.name}_{seed}")
        runs.append(run(args.recipe, folder, [*flags, "--seed", str(seed)]))
        args.output.with_suffix(".md").write_text(table(runs, args.seeds[: len(runs)]), encoding="utf-8")
    print(table(runs, args.seeds))


if __name__ == "__main__":
    main()

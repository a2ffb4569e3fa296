"""The four task weightings on easy-VQA and VQA-RAD: accuracies over several seeds, in one Markdown table.

python benchmarks/task_weighting.py --output docs/results/task_weighting.md [--vqa_rad FLAGS OF run_vqa.py ...]

Runs are short, so that all of them take less than an hour on two cores; the table says how short. They go to
runs/task_weighting, and one that is finished already is not run again. FLAGS replace settings of recipes/vqa_rad.yaml,
for files in place of the Hub's data set and towers.
"""

import argparse
import json
import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from pages import ROOT, build_parser, write_page
from seeds import TYPES, run, spread

WEIGHTINGS = ("fixed", "schedule", "uncertainty", "mgda")
SEEDS = (42, 0, 1)
SHORT = [
    "--eval_strategy",
    "no",
    "--save_strategy",
    "no",
    "--load_best_model_at_end",
    "false",
    "--disable_tqdm",
    "true",
    "--calibrate",
    "false",
    "--report",
    "false",
]
DATASETS = {
    # The weights of the design's schedule, for a third of the run each.
    "easy_vqa": ["--num_train_epochs", "3", "--task_weighting_schedule", "0-0:0.5/0.5", "1-1:0.3/0.7", "2-2:0.2/0.8"],
    "vqa_rad": [
        *("--num_train_epochs", "6", "--image_size", "128", "--early_stopping_patience", "0"),
        *("--task_weighting_schedule", "0-1:0.5/0.5", "2-3:0.3/0.7", "4-5:0.2/0.8"),
    ],
}
HEADER = """# Task weighting

How the weights of the yes/no and the open-ended loss are chosen, and what comes of it. Written by

```bash
{command}
```

Accuracies are routed (the model chooses the head), in %, mean ± standard deviation over seeds {seeds}. *Weights* are
those of the last step, yes/no / open-ended, of the first seed. Each run is capped: easy-VQA at 3 epochs of its official
training part (12 in the recipe), scored on the official test part; VQA-RAD at 6 epochs of images of 128 pixels (12 of
224 in the recipe), scored on the validation part, whose images training doesn't see. Of both the last state is
scored, not the best one. *schedule* has the design's weights, 0.5/0.5, 0.3/0.7 and 0.2/0.8, for a third of the run
each.
Training took {minutes:.0f} minutes of {jobs} processes at a time on {cores} cores ({machine}, torch {torch}).
"""


def weights_of(folder):
    """The weights in force at the last logging step of a run."""
    logged = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    last = [entry for entry in logged if "binary_weight" in entry][-1]
    return f"{last['binary_weight']:.2f} / {last['open_ended_weight']:.2f}"


def table(name, results, folders):
    """Markdown: a row for each weighting."""
    part = "test" if "test_routed_accuracy" in results["fixed"][0] else "eval"
    first = results["fixed"][0]
    where = "test part" if part == "test" else "validation part"
    lines = [
        f"\n## {name}, {where}",
        "",
        f"Coverage of the open-ended answers {100 * first[f'{part}_coverage']:.1f} %.",
        "",
        "| weighting | " + " | ".join(TYPES) + " | weights |",
        "|---" * (len(TYPES) + 2) + "|",
    ]
    majority = " | ".join(f"{100 * first[f'{part}_majority_{kind}']:.2f}" for kind in TYPES.values())
    for weighting, runs in results.items():
        cells = [spread([100 * found[f"{part}_routed_{kind}"] for found in runs], 2) for kind in TYPES.values()]
        lines.append(f"| {weighting} | {' | '.join(cells)} | {weights_of(folders[weighting])} |")
    lines.append(f"| always the most frequent answer | {majority} | |")
    return "\n".join(lines) + "\n"


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs/task_weighting")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--vqa_rad", nargs=argparse.REMAINDER, default=[])
    args = parser.parse_args()
    threads = max(1, os.cpu_count() // args.jobs)
    with ThreadPoolExecutor(args.jobs) as pool:
        pending = {}
        for name, flags in DATASETS.items():
            for seed in args.seeds:
                for weighting in WEIGHTINGS:
                    own = [*SHORT, *flags, "--task_weighting", weighting, "--seed", str(seed)]
                    own += args.vqa_rad if name == "vqa_rad" else []
                    folder = args.runs / f"{name}_{weighting}_{seed}"
                    job = pool.submit(run, str(ROOT / f"recipes/{name}.yaml"), folder, own, threads)
                    pending[name, weighting, seed] = job
    found = {key: job.result() for key, job in pending.items()}
    tables = []
    for name in DATASETS:
        results = {weighting: [found[name, weighting, seed] for seed in args.seeds] for weighting in WEIGHTINGS}
        folders = {weighting: args.runs / f"{name}_{weighting}_{args.seeds[0]}" for weighting in WEIGHTINGS}
        tables.append(table(name.replace("_", "-"), results, folders))
    text = HEADER.format(
        command="python benchmarks/task_weighting.py " + " ".join(sys.argv[1:]),
        seeds=", ".join(map(str, args.seeds)),
        minutes=sum(result["train_runtime"] for result in found.values()) / 60 / args.jobs,
        jobs=args.jobs,
        cores=os.cpu_count(),
        machine=platform.machine(),
        torch=torch.__version__,
    )
    write_page(args.output, text + "".join(tables))
    print(text + "".join(tables))


if __name__ == "__main__":
    main()

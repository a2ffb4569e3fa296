"""The demo's figures: several seeds of recipes/easy_vqa.yaml, and the design's default fusion in the same time.

python benchmarks/easy_vqa.py writes runs/benchmark_easy_vqa/table.md and prints it; --seeds and --default_fusion_seeds
say how often. A run that is finished already is not run again.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

import torch

ROOT = Path(__file__).resolve().parent.parent
# The default fusion takes shorter steps, so it gets more epochs, for at least the time of the recipe.
ROWS = {
    "recipe (cross_attention)": [],
    "default fusion (attention)": ["--config", "fusion_type=attention", "--num_train_epochs", "15"],
}
COLUMNS = {
    "yes/no": "test_routed_binary_accuracy",
    "open-ended": "test_routed_open_ended_accuracy",
    "all, routed": "test_routed_accuracy",
    "all, oracle": "test_oracle_accuracy",
}


def run(folder, flags):
    """The results of one run of the recipe, from its folder if it is there."""
    results = folder / "all_results.json"
    if not results.exists() or "test_routed_accuracy" not in json.loads(results.read_text()):
        command = [sys.executable, "run_vqa.py", "recipes/easy_vqa.yaml", "--output_dir", str(folder.resolve()), *flags]
        subprocess.run(command, cwd=ROOT, check=True)
    return json.loads(results.read_text())


def spread(values, scale=1.0, digits=2):
    """Mean and, of several values, standard deviation."""
    values = [scale * value for value in values]
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{deviation}"


def table(results):
    lines = [
        "| | seeds | " + " | ".join(COLUMNS) + " | majority | training, minutes |",
        "|---" * (len(COLUMNS) + 4) + "|",
    ]
    for name, runs in results.items():
        cells = [spread([run[key] for run in runs], 100) + " %" for key in COLUMNS.values()]
        cells.append(spread([run["test_majority_accuracy"] for run in runs[:1]], 100) + " %")
        cells.append(spread([run["train_runtime"] for run in runs], 1 / 60, 1))
        lines.append(f"| {name} | {len(runs)} | " + " | ".join(cells) + " |")
    lines.append("")
    lines.append(
        f"Accuracy on the 9,673 official test questions, mean ± standard deviation over seeds. Measured on "
        f"{os.cpu_count()} CPU cores ({platform.machine()}), torch {torch.__version__}, no GPU."
    )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 0, 1])
    parser.add_argument("--default_fusion_seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "benchmark_easy_vqa")
    args = parser.parse_args()
    results = {}
    for (name, flags), seeds in zip(ROWS.items(), (args.seeds, args.default_fusion_seeds)):
        folder = name.split(" ")[0]
        results[name] = [run(args.output / f"{folder}_{seed}", [*flags, "--seed", str(seed)]) for seed in seeds]
        (args.output / "table.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()

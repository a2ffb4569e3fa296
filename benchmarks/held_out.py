"""What a run without a recipe reaches by each way to hold out, with and without a memory, beside copying.

python benchmarks/held_out.py --ways wording image --runs runs/held_out --output docs/results/held_out.md
    --flags --train_file vqa-rad/train.jsonl --image_dir vqa-rad ...

A run that is finished already is not run again.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import torch
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
NOTE = """
Each run trains without a recipe; {share:.0%} of what its way can hold out is held out, drawn anew for each seed, and
scored. *Heads alone* and *with memory* are of the same model, routed: the model chooses the head. The parameters of the
memory are fitted on the held-out questions, and each of these is answered with parameters fitted on those about other
images. *Copied* is the answer of the training question whose words are most similar, about whatever image; *same image*
that of the most similar one about the same image. *Majority* is the most frequent training answer of the true type. All
questions, in %, mean ± standard deviation over the seeds {seeds}.

{machine}, torch {torch}.
"""


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--ways", nargs="+", default=["wording", "question", "image"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 0, 1])
    parser.add_argument("--share", type=float, default=0.15)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--flags", nargs="...", default=[])
    args = parser.parse_args()
    machine = f"{os.cpu_count()} cores ({platform.machine()}), {torch.get_num_threads()} threads"
    seeds = ", ".join(map(str, args.seeds))
    note = NOTE.format(share=args.share, seeds=seeds, machine=machine, torch=torch.__version__)
    lines = []
    for way in args.ways:
        runs = [measure(args, way, seed) for seed in args.seeds]
        questions = ", ".join(str(run["questions"]) for run in runs)
        lines.append([way, questions, *("-" if None in column else spread(column, 1) for column in columns_of(runs))])
        text = f"{table(['held out by', 'questions', *COLUMNS.values()], lines)}{note}"
        write_page(args.output, f"# Three ways to hold out\n\nWritten by\n\n```bash\n{command()}\n```\n\n{text}")
    print(text)


def columns_of(runs):
    return [[run[name] for run in runs] for name in COLUMNS]


def measure(args, way, seed):
    """What one run reached, in %."""
    folder = args.runs / f"{way}_{seed}"
    if not (folder / "report.json").exists():
        seeds = ["--split_seed", str(seed), "--seed", str(seed)]
        ours = ["--split_by", way, "--validation_fraction", str(args.share), *seeds]
        start = [sys.executable, "-m", "dualvqa", "train", "--do_eval", "--memory", "--output_dir", str(folder)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([*start, *ours, *args.flags], check=True, env=environment)
    part = json.loads((folder / "report.json").read_text())["parts"]["validation"]
    memory = json.loads((folder / "config.json").read_text())["model_card"]["memory"]
    if memory is None:
        raise SystemExit(f"{folder}: too few questions are held out to fit a memory's parameters: raise --share")
    shares = {name: part["accuracy"][name]["all"]["value"] for name in ("copied", "majority")}
    shares |= {"without": memory["without"], "with": memory["with"], "router": part["router_accuracy"]["value"]}
    shares["same"] = part["same_image"] and part["same_image"]["accuracy"]["copied_same_image"]["value"]
    percent = {name: None if share is None else 100 * share for name, share in shares.items()}
    return {**percent, "questions": memory["rows"]}


if __name__ == "__main__":
    main()

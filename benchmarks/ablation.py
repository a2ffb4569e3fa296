"""Variants, ablations and rivals of the design: accuracies over several seeds, sizes and speed, in a table and a plot.

python benchmarks/ablation.py --dataset easy_vqa --seeds 3 --output docs/results/ablation_easy_vqa.md
    [--rows full concat ...] [--budget 600] [--flags FLAGS OF run_vqa.py ...]

benchmarks/ablation.yaml says what the rows are; `rivals` is a table of their sizes and speed, alone a page. Runs go to
runs/ablation/DATASET; one that is finished already is not run again, and the table is written after each. FLAGS replace
the recipe's settings, for files in place of the Hub's.
"""

import argparse
import difflib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import transformers
import yaml
from ablation_plot import draw
from ablation_runs import Row, Runs, flags_of, run, shares_of
from ablation_tables import HEAD, TIMED, claims_table, line, rivals_table, speeds_of
from measure import machine
from pages import ROOT, build_parser, command, table, write_page
from quantization import rows_of

sys.path.insert(0, str(ROOT))

SEEDS = (42, 0, 1, 2, 3)
NOTE = """# Ablation, {dataset}

Written by

```bash
{command}
```

{about}.
{machine}.
Capped: every run has {budget} steps, and its last state is scored. Accuracies in %, mean ± standard deviation over the
seeds {seeds}: routed, where the model chooses the head, and oracle, where the true question type does. *Expected* is
what the source design says of its own data: yes/no, open-ended, overall. *Processor* is the processor time of the whole
run but for its imports, summed over threads, which other programs on the machine change little, and *memory* the most
that its process took; {jobs} ran at a time. *Questions/s* are those of this run's model answering {images} questions of
{tokens} tokens about as many images, in turn with all others, alone on the machine.
Separate models have no router: nothing chooses between the two; their sizes and times are added, and each has the
whole budget. So are the sizes and times of an ensemble's members, except that it is trained already and takes the
memory of answering. A taught model's time is its own, without its teacher's.
"""
RIVALS = """# Rivals of the design

Written by

```bash
{command}
```

{machine}.
Models as configuration builds them, weights at random, so that only size and speed can be compared. *Expected* is what
the source design says of their size. *Questions/s*: {images} questions of {tokens} tokens about as many images, in
turn with the others.
"""


def plan():
    return yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def check_rows(names, known):
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=2)
            raise SystemExit(
                f"error: no row {name!r}; "
                + (f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}")
            )


def page(args, everything, rows, shares, finished):
    """The Markdown page of the rows that have runs, None where there are none; speed is measured of finished ones."""
    seeds, data = SEEDS[: args.seeds], everything["datasets"][args.dataset]
    done = [row for row in rows if row.seeds(seeds)]
    if not done:
        return None
    speeds = speeds_of({row.name: row.models(row.seeds(seeds)[0]) for row in done}) if finished else {}
    text = NOTE.format(
        dataset=args.dataset,
        command=command(),
        about=" ".join(data["about"].split()),
        machine=machine(),
        budget=args.budget,
        seeds=", ".join(map(str, seeds)),
        jobs=args.jobs,
        **TIMED,
    )
    text += "\n" + table(HEAD, [line(row, seeds, shares, speeds) for row in done])
    text += claims_table(everything["claims"], rows, seeds, shares)
    text += rivals_table(everything["rivals"]) if finished and "rivals" in args.rows else ""
    return text + f"\n![accuracy of every row]({args.output.stem}.png)\n"


def parse_arguments(everything):
    parser = build_parser(__doc__)
    parser.add_argument("--dataset", choices=everything["datasets"], required=True)
    parser.add_argument("--rows", nargs="+", help="default: all of the data set, and rivals")
    parser.add_argument("--seeds", type=int, default=3, help=f"how many of {', '.join(map(str, SEEDS))}")
    parser.add_argument("--budget", type=int, help="steps of every run")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; they share the cores")
    parser.add_argument("--finished", action="store_true", help="run nothing: the table of the runs that are there")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs/ablation")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[])
    args = parser.parse_args()
    if not 1 <= args.seeds <= len(SEEDS):
        raise SystemExit(f"error: --seeds must be from 1 to {len(SEEDS)}, found {args.seeds}")
    data = everything["datasets"][args.dataset]
    args.budget = args.budget or data["budget"]
    known = [*everything["rows"], *data["rows"], "rivals"]
    args.rows = args.rows or known
    check_rows(args.rows, known)
    return args


def main():
    everything = plan()
    args = parse_arguments(everything)
    transformers.utils.logging.disable_progress_bar()
    if args.rows == ["rivals"]:
        text = RIVALS.format(command=command(), machine=machine(), **TIMED) + rivals_table(everything["rivals"])
        write_page(args.output, text)
        print(text)
        return
    data, seeds = everything["datasets"][args.dataset], SEEDS[: args.seeds]
    known, recipe = {**everything["rows"], **data["rows"]}, str(ROOT / data["recipe"])
    rows = [Row(name, known[name], known[name].get("parts", {"": name})) for name in args.rows if name != "rivals"]
    threads = max(1, os.cpu_count() // args.jobs)
    runs = Runs(
        {**known, **everything["parts"]},
        lambda folder, flags: run(recipe, folder, flags, threads),
        lambda spec, seed: flags_of(data, spec, args.budget, seed, args.flags),
        args.runs / args.dataset,
        args.budget,
    )
    flags = flags_of(data, {}, args.budget, SEEDS[0], args.flags)
    shares = shares_of(rows_of([recipe, *flags, "--output_dir", "runs/x"]))

    def write(finished=False):
        if text := page(args, everything, rows, shares, finished):
            write_page(args.output, text)
            draw(args.output)

    jobs = [(row, part, seed) for seed in seeds for row in rows for part in row.parts]
    if args.finished:
        jobs = [(row, part, seed) for row, part, seed in jobs if runs.finished(row.parts[part], seed)]
    with ThreadPoolExecutor(args.jobs) as pool:
        finished = pool.map(lambda job: runs.get(job[0].parts[job[1]], job[2]), jobs)
        for (row, part, seed), (folders, figures) in zip(jobs, finished):
            row.runs[part, seed] = folders, figures
            print(f"{row.label} {part} seed {seed}: {figures['processor_seconds']:.0f} s", flush=True)
            if not args.finished:  # it loads every model, for their sizes
                write()
    write(finished=True)
    print(args.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

"""Variants, ablations and rivals of the design: accuracies over several seeds, sizes and speed, in a table and a plot.

python benchmarks/ablation.py --dataset easy_vqa --seeds 3 --output docs/results/ablation_easy_vqa.md
    [--rows full concat ...] [--budget 600] [--flags FLAGS OF run_vqa.py ...]

benchmarks/ablation.yaml says what the rows are; `rivals` is a table of their sizes and speed, alone a page. Runs go to
runs/ablation/DATASET; one that is finished already is not run again, and the table is written after each. FLAGS replace
the recipe's settings, for files in place of the Hub's.
"""

import argparse
import difflib
import json
import os
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, median, stdev
from threading import Lock

import matplotlib
import torch
import transformers
import yaml
from measure import command, interleaved, machine, table
from pages import write_page
from quantization import rows_of
from scipy import stats
from seeds import ROOT
from task_weighting import SHORT

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(ROOT))

SEEDS = (42, 0, 1, 2, 3)
TASKS = ("binary", "open_ended")
KINDS = ("routed", "oracle")
FIGURES = ("_binary_accuracy", "_open_ended_accuracy", "_accuracy")  # yes/no, open-ended, all
USAGE = "usage.json"  # the last file of a finished run
TIMED = {"images": 32, "tokens": 12}
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
run, summed over threads, which other programs on the machine change little, and *memory* the most that its process
took; {jobs} ran at a time. *Questions/s* are those of this run's
model answering {images} questions of {tokens} tokens about as many pictures, in turn with all others, alone on the
machine.
Separate models have no router: nobody tells which of the two to ask; their sizes and times are added, and each has the
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
the source design says of their size. *Questions/s*: {images} questions of {tokens} tokens about as many pictures, in
turn with the others.
"""
CLAIMS = """
## What holds

Accuracy of all questions, oracle, in points: the first less the second, of runs of the same seed, mean ± standard
deviation. A claim holds where the 95 % interval of the mean (Student's t over the seeds) lies above zero, and does not
hold where it lies below; where it has zero inside, or with one seed, these runs don't tell.

"""
HEAD = [
    *("", "parameters", "yes/no", "open-ended", "all", "yes/no, oracle", "open-ended, oracle", "all, oracle"),
    *("expected", "processor, s", "memory, MiB", "questions/s", "seeds"),
]


def plan():
    return yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def flags_of(data, row, budget, seed, extra):
    """Flags of run_vqa.py: the data set's, the row's over them, then those of the command line."""
    flags = [*SHORT, "--max_steps", str(budget), "--seed", str(seed)]
    settings = [f"{k}={json.dumps(v)}" for k, v in {**data.get("config", {}), **row.get("config", {})}.items()]
    for name, value in {**data.get("flags", {}), **row.get("flags", {})}.items():
        flags += [f"--{name}", str(value)]
    return [*flags, *extra, *(["--config", *settings] if settings else [])]


def run(recipe, folder, flags, threads):
    """Figures of one run, from its folder if it is finished; with its processor time, and its largest memory in MiB."""
    results, usage = folder / "all_results.json", folder / USAGE
    if not (results.exists() and usage.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        arguments = [sys.executable, str(ROOT / "run_vqa.py"), recipe, "--output_dir", str(folder), *flags]
        with open(folder / "log.txt", "w", encoding="utf-8") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            process = subprocess.Popen(arguments, env=environment, stdout=log, stderr=subprocess.STDOUT)
            _, status, used = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"error: a run failed, see {folder / 'log.txt'}")
        seconds = used.ru_utime + used.ru_stime
        usage.write_text(json.dumps({"processor_seconds": seconds, "peak": used.ru_maxrss / 1024}))
    return json.loads(results.read_text()) | json.loads(usage.read_text())


class Runs:
    """Finished runs of the plan's rows, each made when it is first asked for; teachers and members come before.

    Args:
        specs: name -> a row of one model, or a part of one of several.
        run_one: function of a folder and flags that gives the figures.
        flags: function of a spec and a seed that gives the flags of its own.
        folder: of the runs; one is called NAME_BUDGET_SEED.
    """

    def __init__(self, specs, run_one, flags, folder, budget):
        self.specs, self.run_one, self.flags, self.folder, self.budget = specs, run_one, flags, folder, budget
        self.locks = defaultdict(Lock)

    def path(self, name, seed):
        return self.folder / f"{name}_{self.budget}_{seed}"

    def finished(self, name, seed):
        return (self.path(name, seed) / USAGE).exists()

    def get(self, name, seed):
        """Folders of the models that answer, and figures."""
        spec, folder = self.specs[name], self.path(name, seed)
        flags, models, seconds = self.flags(spec, seed), [folder], 0
        if "teacher" in spec:
            flags += ["--teacher", *map(str, self.get(spec["teacher"], seed)[0])]
        if "members" in spec:
            members = [self.get(member, seed) for member in spec["members"]]
            models = [model for found, _ in members for model in found]
            seconds = sum(figures["processor_seconds"] for _, figures in members)
            flags += ["--do_train", "false", "--model_name_or_path", str(models[0])]
            flags += ["--ensemble_with", *map(str, models[1:])]
        with self.locks[name, seed]:
            figures = self.run_one(folder, flags)
            return models, {**figures, "processor_seconds": seconds + figures["processor_seconds"]}


class Row:
    """One line of the table and its finished runs.

    Args:
        spec: the row's entry in the plan.
        parts: task -> name of a run; one task called "" for a row that is one model.
    """

    def __init__(self, name, spec, parts):
        self.name, self.label, self.expected = name, spec["label"], spec.get("expected")
        self.parts, self.runs = parts, {}  # runs: (part, seed) -> (folders, figures)

    def seeds(self, seeds):
        return [seed for seed in seeds if all((part, seed) in self.runs for part in self.parts)]

    def accuracies(self, seed, kind, shares):
        """Yes/no, open-ended and all, in %; None for what the row can't say."""
        if "" in self.parts:
            figures = self.runs["", seed][1]
            part = "test" if f"test_{kind}_accuracy" in figures else "eval"
            return [100 * figures[f"{part}_{kind}{name}"] for name in FIGURES]
        if kind == "routed":
            return [None] * 3
        found = []
        for task in TASKS:
            figures = self.runs[task, seed][1]
            part = "test" if "test_oracle_accuracy" in figures else "eval"
            found.append(100 * figures[f"{part}_oracle_{task}_accuracy"])
        return [*found, sum(share * value for share, value in zip(shares, found))]

    def total(self, seed, name):
        return sum(self.runs[part, seed][1][name] for part in self.parts)

    def models(self, seed):
        from modeling_dualvqa import DualVQAForQuestionAnswering

        folders = [folder for part in self.parts for folder in self.runs[part, seed][0]]
        return [DualVQAForQuestionAnswering.from_pretrained(folder) for folder in folders]


def spread(values, digits=1):
    if values and values[0] is None:
        return "-"
    return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def line(row, seeds, shares, speeds):
    seeds = row.seeds(seeds)
    cells = [row.label, f"{sum(m.num_parameters() for m in row.models(seeds[0])):,}"]
    for kind in KINDS:
        cells += [spread(values) for values in zip(*(row.accuracies(seed, kind, shares) for seed in seeds))]
    cells.append(" / ".join(map(str, row.expected)) if row.expected else "")
    cells += [spread([row.total(seed, name) for seed in seeds], 0) for name in ("processor_seconds", "peak")]
    return [*cells, speeds.get(row.name, ""), len(seeds)]


def asked(model):
    """A function that answers a batch of the size that is timed."""
    size = getattr(model.config.vision_config, "image_size", 224)
    pixels = torch.randn(TIMED["images"], 3, size, size)
    ids = torch.randint(1, model.config.text_config.vocab_size, (TIMED["images"], TIMED["tokens"]))
    mask = torch.ones_like(ids)

    def call():
        with torch.inference_mode():
            model(input_ids=ids, attention_mask=mask, pixel_values=pixels)

    return call


def speeds_of(models, rounds=5):
    """name -> questions a second, of name -> list of models that are all asked."""
    calls = {(name, n): asked(model.eval()) for name, several in models.items() for n, model in enumerate(several)}
    seconds = interleaved(calls, rounds)
    return {
        name: f"{TIMED['images'] / sum(median(seconds[name, n]) for n in range(len(several))):.0f}"
        for name, several in models.items()
    }


def verdict_on(points):
    """What differences over seeds say of a claim that they are above zero, by a 95 % interval of their mean."""
    if len(points) < 2:
        return "not told"
    reach = stats.t.ppf(0.975, len(points) - 1) * stdev(points) / len(points) ** 0.5
    if abs(mean(points)) <= reach:
        return "not told"
    return "holds" if mean(points) > 0 else "does not hold"


def claims_table(claims, rows, seeds, shares):
    """What the plan claims of two rows, and whether it holds; of rows that have runs."""
    rows, lines = {row.name: row for row in rows}, []
    for claim in claims:
        better, worse = rows.get(claim["better"]), rows.get(claim["worse"])
        common = [
            seed for seed in seeds if better and worse and seed in better.seeds(seeds) and seed in worse.seeds(seeds)
        ]
        if not common:
            continue
        points = [
            better.accuracies(seed, "oracle", shares)[2] - worse.accuracies(seed, "oracle", shares)[2]
            for seed in common
        ]
        expected = ""
        if better.expected and worse.expected:
            expected = f"{better.expected[2] - worse.expected[2]:+d}"
        pair = f"{better.label} / {worse.label}"
        lines.append([claim["claim"], pair, expected, spread(points), verdict_on(points)])
    return CLAIMS + table(["claim", "first / second", "expected", "found", ""], lines) if lines else ""


def rivals_table(rivals):
    from modeling_dualvqa import DualVQAConfig, DualVQAForQuestionAnswering

    models = {name: [DualVQAForQuestionAnswering(DualVQAConfig(**r["config"]))] for name, r in rivals.items()}
    speeds = speeds_of(models)
    sizes = {name: several[0].num_parameters() for name, several in models.items()}
    ours = next(iter(rivals))
    lines = [
        [
            *(rivals[name]["label"], f"{sizes[name]:,}", rivals[name]["expected"], speeds[name]),
            *(f"{sizes[ours] / sizes[name]:.2f}", f"{int(speeds[name]) / int(speeds[ours]):.2f}"),
        ]
        for name in rivals
    ]
    head = [
        "random weights, 224 pixels",
        "parameters",
        "expected",
        "questions/s",
        "size, ours / its",
        "time, ours / its",
    ]
    return "\n## Rivals, size and speed\n\n" + table(head, lines)


def shares_of(rows):
    """The shares of yes/no and open-ended questions."""
    from processing.answers import consensus, question_type_of

    open_ended = mean(question_type_of(consensus(row["answer"])) for row in rows.remove_columns("image"))
    return 1 - open_ended, open_ended


def draw(rows, seeds, shares, path):
    """Overall accuracy of every row, oracle, and what the source design expected."""
    done = [row for row in rows if row.seeds(seeds)][::-1]
    figure, axis = plt.subplots(figsize=(8, 0.5 * len(done) + 1.2))
    for place, row in enumerate(done):
        found = [row.accuracies(seed, "oracle", shares) for seed in row.seeds(seeds)]
        for (label, color, index), shift in zip(
            (("yes/no", "tab:blue", 0), ("open-ended", "tab:orange", 1), ("all", "black", 2)), (0.22, 0, -0.22)
        ):
            values = [one[index] for one in found]
            spread_of = stdev(values) if len(values) > 1 else 0
            axis.errorbar(
                mean(values),
                place + shift,
                xerr=spread_of,
                fmt="o",
                color=color,
                capsize=3,
                label=None if place else label,
            )
        if row.expected:
            axis.plot(row.expected[2], place, "x", color="gray", label=None if place else "expected, all")
    handles, labels = axis.get_legend_handles_labels()
    axis.set_yticks(range(len(done)), [row.label for row in done])
    axis.set_xlabel("accuracy, oracle head, % (mean ± standard deviation)")
    axis.grid(axis="x", alpha=0.3)
    axis.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def check_rows(names, known):
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=2)
            raise SystemExit(
                f"error: no row {name!r}; "
                + (f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}")
            )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter, allow_abbrev=False
    )
    everything = plan()
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
    transformers.utils.logging.disable_progress_bar()
    if not 1 <= args.seeds <= len(SEEDS):
        raise SystemExit(f"error: --seeds must be from 1 to {len(SEEDS)}, found {args.seeds}")
    data, seeds = everything["datasets"][args.dataset], SEEDS[: args.seeds]
    known = {**everything["rows"], **data["rows"]}
    chosen = args.rows or [*known, "rivals"]
    check_rows(chosen, [*known, "rivals"])
    if chosen == ["rivals"]:
        text = RIVALS.format(command=command(), machine=machine(), **TIMED) + rivals_table(everything["rivals"])
        write_page(args.output, text)
        print(text)
        return
    budget, recipe = args.budget or data["budget"], str(ROOT / data["recipe"])
    rows = [Row(name, known[name], known[name].get("parts", {"": name})) for name in chosen if name != "rivals"]
    threads = max(1, os.cpu_count() // args.jobs)
    runs = Runs(
        {**known, **everything["parts"]},
        lambda folder, flags: run(recipe, folder, flags, threads),
        lambda spec, seed: flags_of(data, spec, budget, seed, args.flags),
        args.runs / args.dataset,
        budget,
    )
    shares = shares_of(rows_of([recipe, *flags_of(data, {}, budget, SEEDS[0], args.flags), "--output_dir", "runs/x"]))

    def write(finished=False):
        done = [row for row in rows if row.seeds(seeds)]
        if not done:
            return
        speeds = speeds_of({row.name: row.models(row.seeds(seeds)[0]) for row in done}) if finished else {}
        text = NOTE.format(
            dataset=args.dataset,
            command=command(),
            about=" ".join(data["about"].split()),
            machine=machine(),
            budget=budget,
            seeds=", ".join(map(str, seeds)),
            jobs=args.jobs,
            **TIMED,
        )
        text += "\n" + table(HEAD, [line(row, seeds, shares, speeds) for row in done])
        text += claims_table(everything["claims"], rows, seeds, shares)
        text += rivals_table(everything["rivals"]) if finished and "rivals" in chosen else ""
        draw(rows, seeds, shares, args.output.with_suffix(".png"))
        text += f"\n![accuracy of every row]({args.output.stem}.png)\n"
        write_page(args.output, text)

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

"""Runs of the ablation: which flags a row of the plan means, its processes, and the accuracies of a finished one."""

import json
import os
import resource
import sys
from collections import defaultdict
from statistics import mean
from threading import Lock

from alone import alone
from pages import ROOT
from task_weighting import SHORT

sys.path.insert(0, str(ROOT))

TASKS = ("binary", "open_ended")
FIGURES = ("_binary_accuracy", "_open_ended_accuracy", "_accuracy")  # yes/no, open-ended, all
USAGE = "usage.json"  # the last file of a finished run


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
        usage.write_text(json.dumps(alone(train, recipe, folder, flags, threads)))
    return json.loads(results.read_text()) | json.loads(usage.read_text())


def train(recipe, folder, flags, threads):
    """One run in this process, which writes to a log in the run's folder; gives what it took."""
    import torch

    from dualvqa.run import main as run_vqa

    torch.set_num_threads(threads)
    log = folder / "log.txt"
    with open(log, "wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    try:
        run_vqa.main([recipe, "--output_dir", str(folder), *flags])
    except SystemExit as error:
        raise RuntimeError(f"a run failed: {error.code}, see {log}") from error
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"processor_seconds": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss / 1024}


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


def shares_of(rows):
    """The shares of yes/no and open-ended questions."""
    from processing.answers import consensus, question_type_of

    open_ended = mean(question_type_of(consensus(row["answer"])) for row in rows.remove_columns("image"))
    return 1 - open_ended, open_ended

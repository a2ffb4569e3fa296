"""Whether a checkpoint has all its parts, each of them whole, with values that a run can go on from."""

import fnmatch
import json
import os
import zipfile
import zlib

import torch
from safetensors import SafetensorError, safe_open
from transformers.trainer import TRAINER_STATE_NAME

from processing.processor_checks_dualvqa import value_problem

PROGRESS_NAME = "training_progress.json"
# What a checkpoint holds, as files of one of these names: on one device or with DDP, with FSDP, with DeepSpeed.
PARTS = {
    "weights": ("model*.safetensors", "adapter_model.*", "pytorch_model*.bin", "global_step*"),
    "state of the optimizer": ("optimizer.pt", "optimizer*.bin", "optimizer_*", "global_step*"),
    "state of the learning rate's schedule": ("scheduler.pt", "global_step*"),
    "random state": ("rng_state*.pth",),
    PROGRESS_NAME: (PROGRESS_NAME,),
}
# What a resumed run can't do without of what these files say.
FIELDS = {
    TRAINER_STATE_NAME: {
        "global_step": int,
        "max_steps": int,
        "epoch": (int, float),
        "num_train_epochs": (int, float),
        "log_history": list,
    },
    PROGRESS_NAME: {
        "plan": dict,
        "losses": dict,
        "runtime": (int, float),
        "task_weighting": str,
        "task_weighting_state": dict,
    },
}


def find_problem(folder):
    """What is wrong with a checkpoint, or None.

    Its state is the last file that is written, and each format's end tells whether all of a file is there.
    """
    names = os.listdir(folder)
    missing = [part for part, patterns in PARTS.items() if not any(fnmatch.filter(names, p) for p in patterns)]
    if TRAINER_STATE_NAME not in names:
        return f"it has no {TRAINER_STATE_NAME}, so it was not written to its end, or holds a model only"
    if "weights" in missing:
        return "it has no weights"
    if missing:
        return (
            f"it has no {', no '.join(missing)}, and without it training would go on as another run. Its weights are "
            f"whole (save_only_model keeps no more): a new run can start from them with --model_name_or_path {folder}"
        )
    for name in fnmatch.filter(names, "*.json"):
        try:
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                found = json.load(file)
        except (ValueError, RecursionError):
            return f"its {name} was not written to its end"
        problem = f"not a JSON object but a {type(found).__name__}" if not isinstance(found, dict) else None
        lost = (
            [] if problem else [f for f, kinds in FIELDS.get(name, {}).items() if not isinstance(found.get(f), kinds)]
        )
        if problem or lost:
            return f"its {name} is damaged: {problem or 'it says nothing usable of ' + ', '.join(lost)}"
        shards = found.get("weight_map", {}).values() if name.endswith(".index.json") else ()
        lacking = sorted(set(shards).difference(names))
        if lacking:
            return f"it has no {lacking[0]}, a part of its weights"
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            if name.endswith(".safetensors"):
                try:
                    problem = weights_problem(path)
                except (SafetensorError, OSError):
                    problem = "is damaged or incomplete"
                if problem:
                    return f"its {name} {problem}"
            elif name.endswith((".pt", ".pth", ".bin")) and not (is_whole_zip(path) and can_be_unpickled(path)):
                return f"its {name} is damaged or incomplete"
    return None


def weights_problem(path):
    """What is wrong with the values in a file of weights, or None."""
    with safe_open(path, "pt") as file:
        for name in file.keys():
            problem = value_problem(name, file.get_tensor(name))
            if problem:
                return f"has {problem} in {name}: that run had diverged"
    return None


def is_whole_zip(path):
    """Whether a file as `torch.save` writes it has the checksums that it says: a block may be lost in its middle."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError):
        return False


def can_be_unpickled(path):
    """Whether a checkpoint's state, as the Trainer reads it, is more than a whole file; its tensors aren't read."""
    if os.path.basename(path) not in ("optimizer.pt", "scheduler.pt"):  # others may hold more than torch itself reads
        return True
    try:
        return isinstance(torch.load(path, map_location="meta", weights_only=True), dict)
    except Exception:  # what a damaged pickle raises can be anything
        return False

"""Checkpoints to go on from or to average: which are complete, and whether they belong to the run."""

import json
import logging
import os
from pathlib import Path

from safetensors import safe_open
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from modeling_dualvqa.weights_dualvqa import check_names
from processing import AnswerRules, difference
from processing.other_rules import same_words, shown_difference

from .auxiliary import NAME as AUXILIARY
from .checkpoint_integrity import PROGRESS_NAME, find_problem

logger = logging.getLogger(__name__)

# What a tower's configuration says besides its architecture, and an adapter's besides its own.
NOT_ARCHITECTURE = {"architectures", "transformers_version", "dtype", "use_cache", "_name_or_path"}
NOT_ADAPTER = {"base_model_name_or_path", "inference_mode", "revision", "peft_version", "auto_mapping"}
ANEW = "Give the data and settings of the run it is from, or start anew without --resume_from_checkpoint"


class CheckpointError(OSError):
    """A checkpoint could not be written."""


def find_checkpoint(value, output_dir):
    """The folder that `--resume_from_checkpoint` means.

    Args:
        value: a checkpoint's folder; a run's folder, for its newest complete checkpoint; "true", for that of the run
            itself, if it has come so far: a job that is started anew has the same flags as at first; None, "" or
            "false".
        output_dir: the run's folder.

    Returns:
        A path, or None where nothing is to be resumed.

    Raises:
        ValueError: no such folder, no complete checkpoint in it, or an incomplete one is named.
    """
    if value is None or str(value).lower() in ("", "false"):
        return None
    own = str(value).lower() == "true"
    folder = output_dir if own else str(value)
    if own and not has_ended_checkpoints(folder):
        logger.warning("there is no checkpoint in %s to go on from: the run starts at its beginning", folder)
        return None
    if not os.path.isdir(folder):
        raise ValueError(f"nothing to resume: there is no folder {folder}")
    if os.path.basename(os.path.normpath(folder)).startswith(PREFIX_CHECKPOINT_DIR):
        problem = find_problem(folder)
        if problem:
            raise ValueError(f"{folder} can't be resumed from: {problem}; name an earlier checkpoint")
        return folder
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        raise ValueError(f"nothing to resume: there is no complete checkpoint in {folder}; start without the flag")
    return checkpoint


def newest_checkpoint(folder):
    """The complete checkpoint in a run's folder with the most steps, or None. Incomplete newer ones are logged."""
    return next((path for _, path in complete_checkpoints(folder)), None)


def all_checkpoints(folder):
    """Steps and paths of a run's checkpoints, complete or not, newest first."""
    steps = {}
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        prefix, _, step = name.partition("-")
        path = os.path.join(folder, name)
        if prefix == PREFIX_CHECKPOINT_DIR and step.isdigit():
            if os.path.isdir(path):
                steps[int(step)] = path
            else:
                logger.warning("%s is passed over: it is no folder", path)
    return sorted(steps.items(), reverse=True)


def has_ended_checkpoints(folder):
    """Whether a run has written a checkpoint to its end. Of one that it was killed in nothing can be lost."""
    return any(os.path.isfile(os.path.join(path, TRAINER_STATE_NAME)) for _, path in all_checkpoints(folder))


def complete_checkpoints(folder):
    """Steps and paths of the complete checkpoints in a run's folder, newest first. Incomplete ones are logged."""
    for step, path in all_checkpoints(folder):
        problem = find_problem(path)
        if problem:
            logger.warning("%s is passed over: %s", path, problem)
        else:
            yield step, path


def refuse_other_runs(folder, checkpoint):
    """Refuses to begin in a folder whose checkpoints would be averaged with those of the run.

    Args:
        folder: the run's.
        checkpoint: what it goes on from, or None.

    Raises:
        ValueError: a complete checkpoint that is neither `checkpoint` nor, beside it, one with fewer steps.
    """
    found = list(complete_checkpoints(folder))
    own = (step for step, path in found if checkpoint and os.path.abspath(path) == os.path.abspath(checkpoint))
    start = next(own, -1)
    others = [path for step, path in found if step > start]
    if others:
        raise ValueError(
            f"average_checkpoints takes the last checkpoints in the run's folder, and {others[0]} is of an earlier "
            f"training: move it away, go on from it with --resume_from_checkpoint, or give another --output_dir"
        )


def mean_weights(checkpoints):
    """The mean of several checkpoints' weights (Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and
    Better Generalization"; Vaswani et al. 2017, "Attention Is All You Need", section 6.1).

    Tensors are read one by one, so that memory holds the mean alone. It runs along in float32, which leaves what is
    equal in all of them as it is, to the last bit. Batch-norm statistics are averaged like weights; whole numbers, such
    as `num_batches_tracked`, are those of the first checkpoint.

    Args:
        checkpoints: paths of folders, newest first.

    Returns:
        dict name -> tensor of the type that the first checkpoint has.

    Raises:
        ValueError: the tensors of one have other names or shapes than those of the first, or it has none.
    """
    mean, types = {}, {}
    for number, folder in enumerate(checkpoints, 1):
        found = set()
        for path in weight_files(folder):
            with safe_open(path, "pt") as file:
                for name in file.keys():  # it is no dict
                    found.add(name)
                    tensor = file.get_tensor(name)
                    if number == 1:
                        types[name] = tensor.dtype
                        mean[name] = tensor.float() if tensor.is_floating_point() else tensor
                        continue
                    check_names(folder, [], {name} - mean.keys(), f"Those of {checkpoints[0]} have other names")
                    if tensor.shape != mean[name].shape:
                        shapes = f"{tuple(tensor.shape)} there, {tuple(mean[name].shape)} in {checkpoints[0]}"
                        raise ValueError(f"{folder} is of another model: {name} has the shape {shapes}")
                    if tensor.is_floating_point():
                        mean[name].lerp_(tensor.float(), 1 / number)
        if not found:
            raise ValueError(f"{folder} has no weights to average: expected model*.safetensors in it")
        check_names(folder, mean.keys() - found, [], f"{checkpoints[0]} has them")
    return {name: tensor.to(types[name]) for name, tensor in mean.items()}


def weight_files(folder):
    """The files that hold a checkpoint's weights; none where it holds an adapter or parts of several processes."""
    return sorted(Path(folder).glob("model*.safetensors"))


def read_progress(checkpoint):
    """What the Trainer wrote beside its own state: see `DualVQATrainer.progress`."""
    with open(os.path.join(checkpoint, PROGRESS_NAME), encoding="utf-8") as file:
        return json.load(file)


def check_architecture(checkpoint, model):
    """Refuses a checkpoint of another architecture, or of other adapters (LoRA and the like, of PEFT).

    Raises:
        ValueError: the configurations differ; the message names the fields.
    """
    saved = read_json(checkpoint, "config.json")
    if saved:  # checkpoints of adapters may have none
        built = architecture_of(model.config)
        refuse_differences(checkpoint, {name: saved.get(name) for name in built}, built)
    adapters, saved = getattr(model, "peft_config", None) or {}, read_json(checkpoint, "adapter_config.json")
    if bool(saved) != bool(adapters):
        kinds = ("the whole model", "adapters")
        raise ValueError(
            f"{checkpoint} holds {kinds[bool(saved)]}, and this run trains {kinds[bool(adapters)]}. Give the model as "
            f"the run had it that wrote it, or start anew without --resume_from_checkpoint"
        )
    if saved:
        built = json.loads(json.dumps(adapters[model.active_adapters[0]].to_dict(), default=sorted))
        own = saved.keys() & built.keys() - NOT_ADAPTER
        pair = ({name: fields[name] for name in own} for fields in (saved, built))
        refuse_differences(checkpoint, *({name: in_order(value) for name, value in fields.items()} for fields in pair))


def architecture_of(config):
    """The fields of a model's configuration that are its own, without what transformers keeps beside them and what is
    learned or recorded."""
    fields = json.loads(config.to_json_string(use_diff=True))
    own = type(config).__annotations__.keys() - {"model_card", "familiarity", "memory"}
    return {name: fields.get(name) for name in own}


def refuse_differences(checkpoint, saved, built, of="another architecture"):
    saved, built = flatten(saved), flatten(built)
    different = [
        f"{name} {saved.get(name)} there, {built.get(name)} here"
        for name in sorted(saved.keys() | built.keys())
        if saved.get(name) != built.get(name)
    ]
    if different:
        raise ValueError(
            f"{checkpoint} is of {of}: {'; '.join(different)}. Give the settings of the run it is "
            f"from, or start anew without --resume_from_checkpoint"
        )


def check_weights(checkpoint, model):
    """Refuses a checkpoint whose tensors are not the model's, before the Trainer takes what it finds of them.

    Raises:
        ValueError: some have other names, as transformers 5 gave to towers like ViT in checkpoints of earlier versions.
    """
    found = set()
    for path in weight_files(checkpoint):
        with safe_open(path, "pt") as file:
            found.update(file.keys())
    found = {name for name in found if not name.startswith(f"{AUXILIARY}.")}  # the model gets them when it is trained
    expected = set(model.state_dict()) - tied_names(model)
    if found:
        advice = "Start a new run from it with --model_name_or_path, which knows older names too"
        check_names(checkpoint, expected - found, found - expected, advice)


def tied_names(model):
    """The names under which a model's tied weights are not written; T5's embeddings are."""
    return set(getattr(model, "all_tied_weights_keys", None) or ())


def in_order(value):
    """A set that was written as a list, in the order that two of them can be compared in."""
    return sorted(value, key=str) if isinstance(value, list) else value


def read_json(folder, name):
    """What a JSON file in a folder holds; {} where there is none."""
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def flatten(fields, prefix=""):
    """A configuration as {"text_config.n_layers": 6, ...}, without what isn't architecture or isn't set."""
    flat = {}
    for name, value in fields.items():
        if name in NOT_ARCHITECTURE or value is None:
            continue
        flat.update(flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat


def check_rules(checkpoint, processor):
    """Refuses a checkpoint that compares answers in another way.

    Raises:
        ValueError: words for yes and no, language or metric differ.
    """
    saved = AnswerRules(**(read_json(checkpoint, "processor_config.json").get("answer_rules") or {}))
    rules = AnswerRules.of(processor)
    other = shown_difference(saved, rules, not same_words(saved, rules))
    if other:
        raise ValueError(f"{checkpoint} compares answers in another way: {other}. {ANEW}")


def check_processor(checkpoint, processor):
    """Refuses a checkpoint whose answers or tokens have other meanings.

    Raises:
        ValueError: vocabulary or tokenizer differ.
    """
    saved = type(processor).from_pretrained(checkpoint)
    rules = AnswerRules.of(processor)
    if difference(saved.answers, processor.answers, rules):
        known = set(map(rules.form, saved.answers))
        new = [answer for answer in processor.answers if rules.form(answer) not in known]
        raise ValueError(
            f"{checkpoint} has another vocabulary: {len(saved.answers)} answers there, {len(processor.answers)} here"
            + (f", of which {len(new)} are not among them, first {new[0]!r}" if new else "")
            + f". {ANEW}"
        )
    if saved.tokenizer.get_vocab() != processor.tokenizer.get_vocab():
        raise ValueError(f"{checkpoint} has a tokenizer with other tokens. {ANEW}")

"""Cross-fitting: scores of all training questions by models that were trained without their images."""

import copy
import logging
import os
import shutil
from collections import Counter

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dualvqa.training.checkpoints import newest_checkpoint
from dualvqa.training.refitting import copy_of_start
from processing import AnswerVocabulary, named_logits, question_type_of
from processing.splits import fold_of

from .calibrating import in_words, predict
from .calibration import LabelledLogits, before_and_after
from .fold_origin import begin
from .memory_fitting import FITTED
from .promises import Judged, groups_of, make_promises

logger = logging.getLogger(__name__)

FOLDER, OUTPUTS = "folds", "outputs.safetensors"
ABSENT = 30.0  # how far below all others the logit of an answer is put that a fold's model hasn't


def last_state(args):
    """The arguments of trainings whose held-out questions choose nothing: the last state counts."""
    args = copy.copy(args)
    if args.load_best_model_at_end or args.early_stopping_patience or args.eval_strategy != "no":
        logger.info("cross-fitting: no state is chosen by held-out questions, the last one of training counts")
    args.eval_strategy, args.load_best_model_at_end, args.early_stopping_patience = "no", False, None
    args.save_strategy = "epoch" if args.save_strategy == "best" else args.save_strategy
    return args


def fold_rows(trainer, fold):
    """What a fold's model is trained on, what is held out of it, and the numbers of the latter among all rows."""
    rows = trainer.train_dataset
    numbered = rows.add_column("cross_fit_row", np.arange(len(rows)))
    known, held = fold_of(numbered, trainer.args.cross_fit, fold, trainer.data_args.split_seed)
    numbers = torch.tensor(held["cross_fit_row"][:])
    return known.remove_columns("cross_fit_row"), held.remove_columns("cross_fit_row"), numbers


def train_fold(trainer, start, fold, resumes):
    """The outputs for one fold's questions of a model that is trained on the others; from its file if it is finished.

    Args:
        trainer: a `DualVQATrainer` that hasn't trained yet, and knows its `origin`.
        start: the model as it starts.
        fold: from 0.
        resumes: whether an earlier run of this folder is gone on with.

    Returns:
        name -> tensor: `<head>_logits` (n, N) of the vocabulary and the memory's answers as far as all rows have them,
        `unknown` (n,), the `rows`, and the memory's fitted parameters; and the number of steps.
    """
    folder = os.path.join(trainer.args.output_dir, FOLDER, str(fold))
    path = os.path.join(folder, OUTPUTS)
    if resumes and os.path.isfile(path):
        with safe_open(path, "pt") as file:
            return load_file(path), int(file.metadata()["steps"])
    if trainer.args.should_save:
        begin(folder, trainer.origin)
    known, held, numbers = fold_rows(trainer, fold)
    args = copy.copy(trainer.args)
    args.output_dir, args.cross_fit = folder, None
    args.image_cache_dir = args.image_cache_dir or os.path.join(trainer.args.output_dir, "image_cache")
    args.push_to_hub, args.report_to, args.report_blind, args.refit = False, [], False, False
    one = type(trainer)(
        model=copy_of_start(start),
        args=args,
        train_dataset=known,
        eval_dataset=held,
        processing_class=copy.deepcopy(trainer.processing_class),  # a save notes things in its parts
        data_args=copy.copy(trainer.data_args),
    )
    one.described = True
    embeddings = getattr(trainer.data_collator, "embeddings", None)
    if embeddings is not None:  # of all rows already
        one.data_collator.embeddings = one.train_collator.embeddings = embeddings
    logger.info(
        "fold %d of %d: training on %d questions, %d about other images are held out",
        *(fold + 1, trainer.args.cross_fit, len(known), len(held)),
    )
    one.train(resume_from_checkpoint=newest_checkpoint(folder) if resumes else None)
    outputs = named_logits(predict(one, held), one.processing_class)
    found = {name: values.contiguous() for name, values in outputs.items() if name.endswith("_logits")}
    found |= {"unknown": unknown_answers(held, forms_of(one), one), "rows": numbers}
    found |= packed(one.processing_class.memory_answers)
    memory = one.accelerator.unwrap_model(one.model).memory
    if memory is not None:
        found |= {f"memory_{name}": torch.tensor(float(memory.settings[name])) for name in FITTED}
    if trainer.args.should_save:
        shutil.rmtree(folder, ignore_errors=True)  # the model has served its purpose
        begin(folder, trainer.origin)
        save_file(found, path, {"steps": str(one.state.global_step)})
    return found, one.state.global_step


def packed(words):
    """Texts as a tensor, for a file of tensors."""
    return {"words": torch.tensor(list("\n".join(words).encode()), dtype=torch.uint8)} if words else {}


def forms_of(trainer):
    """The open-ended answers that a fold's training questions have, often enough for a vocabulary or in its memory."""
    rules = AnswerVocabulary.of(trainer.processing_class).rules
    counts = Counter(map(rules.consensus, trainer.train_dataset["answer"][:]))
    least = 1 if trainer.args.memory else max(1, trainer.data_args.min_answer_frequency)
    return {form for form, count in counts.items() if count >= least}


def unknown_answers(rows, known, trainer):
    """(n,) which questions have an open-ended answer that the fold's training questions lack."""
    rules = AnswerVocabulary.of(trainer.processing_class).rules
    forms = map(rules.consensus, rows["answer"][:])
    return torch.tensor([question_type_of(form) == 1 and form not in known for form in forms])


class OutOfFold:
    """The outputs of all folds.

    Args:
        folds: what `train_fold` gave of each, with the numbers of steps.
        count: how many questions there are.
    """

    def __init__(self, folds, count):
        self.folds, self.count = [found for found, _ in folds], count
        self.steps = max(steps for _, steps in folds)

    def memory_parameters(self):
        """The median of each of the memory's fitted parameters; {} without a memory."""
        names = [name for name in self.folds[0] if name.startswith("memory_")]
        return {
            name.removeprefix("memory_"): float(np.median([fold[name].item() for fold in self.folds])) for name in names
        }

    def labelled(self, processor, rows, temperatures=None):
        """All questions as [`LabelledLogits`], in the order of the rows.

        Args:
            processor: of the model that was trained on all rows.
            rows: they.
            temperatures: of each fold, head -> what its logits are divided by.
        """
        outputs, unknown = {}, torch.zeros(self.count, dtype=torch.bool)
        for fold, own in zip(self.folds, temperatures or [{}] * len(self.folds)):
            unknown[fold["rows"]] = fold["unknown"]
            for name in filter(lambda name: name.endswith("_logits"), fold):
                logits = fold[name].float() / own.get(name.removesuffix("_logits"), 1.0)
                if name == "open_ended_logits":
                    logits = widened(logits, fold, processor)
                outputs.setdefault(name, torch.empty(self.count, logits.shape[1]))[fold["rows"]] = logits
        found = LabelledLogits(processor, outputs, rows["answer"][:], rows["image_key"][:])
        if "open_ended" in found.labels:
            found.labels["open_ended"][unknown] = -100
        return found


def widened(logits, fold, processor):
    """A fold's logits with a column for each answer of the model that was trained on all rows."""
    words = bytes(fold["words"].tolist()).decode().split("\n") if "words" in fold else []
    known = [*processor.answers, *words]
    places = {word: place for place, word in enumerate(processor.all_answers)}
    wide = (logits.min(dim=1, keepdim=True).values - ABSENT).repeat(1, len(places))
    kept = [(place, places[word]) for place, word in enumerate(known) if word in places]
    wide[:, [there for _, there in kept]] = logits[:, [here for here, _ in kept]]
    return wide


def calibration_of_folds(found, processor, rows, args):
    """What the out-of-fold scores tell, as `DualVQAProcessor.calibration` keeps it, and figures.

    Each fold's model has temperatures of its own, fitted on what was held out of it: only then do its scores mean the
    same as the others'. The model of all rows has their geometric mean.

    Args:
        found: [`OutOfFold`].
        processor: of the model of all rows, without a calibration.
        rows: all training rows.
        args: the `CalibrationArguments`.
    """
    plain = found.labelled(processor, rows)
    problems = plain.problems()
    for head, problem in problems.items():
        logger.warning("%s; it keeps temperature 1", in_words({head: problem}))
    heads = [head for head in plain.heads if head not in problems]
    own = [plain.temperatures(heads, fold["rows"]) for fold in found.folds]
    temperatures = {
        head: float(np.exp(np.mean([np.log(each[head]) for each in own if head in each])))
        for head in heads
        if any(head in each for each in own)
    }
    scaled = found.labelled(processor, rows, own)
    judged = Judged(scaled, {})
    figures = {"rows": len(rows), "images": len(set(rows["image_key"][:])), "folds": len(found.folds)}
    figures["routed_accuracy"] = float(judged.correct.mean())
    figures |= {f"{head}_temperature": temperature for head, temperature in temperatures.items()}
    figures |= before_and_after(plain.errors(plain.ranked({})), scaled.errors(scaled.ranked({})))
    promised, others = make_promises(judged, args, groups_of(judged, rows, args.promise_by))
    return {"temperatures": temperatures, **promised}, {**figures, **others}

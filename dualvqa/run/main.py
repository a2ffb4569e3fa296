"""Trains, evaluates and asks a DualVQA model: python run_vqa.py recipes/X.yaml [--any_flag value ...]"""

import contextlib
import copy
import dataclasses
import logging
import os
import sys
import warnings

import datasets
from accelerate import PartialState
from transformers import EarlyStoppingCallback, set_seed
from transformers.trainer_callback import ProgressCallback

from dualvqa.deployment.optimize import optimize_for_inference
from dualvqa.reporting.figures import choose_columns
from dualvqa.reporting.report import EvaluatedRun, write_report
from dualvqa.training.auxiliary import AuxiliaryTargets
from dualvqa.training.checkpoints import find_checkpoint, newest_checkpoint, refuse_other_runs
from dualvqa.training.contrastive import ContrastiveTrainer
from dualvqa.training.embeddings import FrozenEmbeddings, embed_parts, reasons_against
from dualvqa.training.freezing import freeze_parameters
from dualvqa.training.image_cache import cache_images
from dualvqa.training.output_folder import claimed
from dualvqa.training.record import figures, run_record
from dualvqa.training.trainer import DualVQATrainer
from dualvqa.trust.metrics import score_figures
from processing import (
    QUESTION_TYPES,
    AnswerMetrics,
    PairCollator,
    VQACollator,
    build_augmentation,
    consensus,
    decoded,
    majority_answers,
    open_training_rows,
    prepare_datasets,
    question_type_of,
    ranked_arrays,
    summary_of,
    write_predictions,
)

from .arguments import check_selection, parse_arguments, select_by_loss
from .calibrate import calibrate, wants_calibration
from .data import answers_to_balance, check_heads, check_parts, list_bad_rows, report_data, report_parameters
from .errors import model_is_kept, named, only_warned, plain_errors
from .flags import check_flags
from .model import (
    ask_teacher,
    build,
    check_new_model,
    check_teacher,
    check_vocabulary,
    load,
    load_together,
    renew_answers,
    warn_of_settings_of_new_models,
)
from .report import blind_arguments, describe_run

logger = logging.getLogger(__name__)


SHOWN_WHILE_TRAINING = {
    "epoch": "epoch",
    "loss": "loss",
    "binary_loss": "yes/no loss",
    "open_ended_loss": "open-ended loss",
    "temperature": "temperature",
    "eval_image_to_text_recall_at_1": "texts of images found",
    "eval_routed_accuracy": "validation accuracy",
    "eval_routed_binary_accuracy": "yes/no",
    "eval_routed_open_ended_accuracy": "open-ended",
}


PREFIXES = {"validation": "eval", "test": "test"}  # of the figures of each part


class ShortProgressCallback(ProgressCallback):
    """The Trainer's progress bar, with a line of the figures one watches; trainer_state.json has them all."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or self.training_bar is None or len(logs or ()) < 2:
            return
        shown = [f"{label} {float(logs[key]):.4g}" for key, label in SHOWN_WHILE_TRAINING.items() if key in logs]
        if len(shown) > 1:
            self.training_bar.write(", ".join(shown))


def check_embeddings(model, model_args, data_args, augmentation):
    """The frozen towers that are run once for the whole run; refused where that is asked for and can't be."""
    if model_args.cache_embeddings == "false":
        return []
    reasons = reasons_against(model, augmentation, data_args.streaming)
    frozen = [tower for tower in reasons if getattr(model.config, f"freeze_{tower}")]
    refused = " ".join(reasons[tower] for tower in frozen or reasons if reasons[tower])
    if refused and model_args.cache_embeddings == "true":
        raise ValueError(f"--cache_embeddings true: {refused}")
    if refused and frozen:
        logger.info("not all frozen towers run once: %s", refused)
    return [tower for tower in frozen if not reasons[tower]]


def build_trainer(
    model, processor, parts, summary, model_args, data_args, training_args, augmentation, embeddings, teacher
):
    """The Trainer with its collators, its metric and a short progress line."""
    validation = parts.get("validation")
    balanced = training_args.balanced_sampling and "train" in parts
    auxiliary = None
    if model_args.auxiliary_columns and training_args.do_train:  # a recipe has them also where it only evaluates
        auxiliary = AuxiliaryTargets.of_rows(parts["train"], model_args.auxiliary_columns)
    classes = (ContrastiveTrainer, PairCollator) if data_args.pretrain else (DualVQATrainer, VQACollator)
    trainer_class, collator = classes
    trainer = trainer_class(
        model=model,
        args=training_args,
        train_dataset=parts.get("train"),
        eval_dataset=validation,
        data_collator=collator(processor, embeddings=embeddings),
        train_collator=collator(processor, augmentation, training_args.seed, embeddings, teacher, auxiliary),
        answer_counts=summary.counts_of(processor.answers) if summary else None,
        train_answers=answers_to_balance(parts["train"], processor) if balanced else None,
        auxiliary=auxiliary,
        processing_class=processor,
        compute_metrics=None if data_args.pretrain else build_metrics(processor, parts, "validation", summary),
    )
    if trainer.pop_callback(ProgressCallback):
        trainer.add_callback(ShortProgressCallback)
    if model_args.early_stopping_patience:
        trainer.add_callback(EarlyStoppingCallback(model_args.early_stopping_patience))
    return trainer


def keep_images(trainer, parts, data_args):
    """Caches the decoded images of the parts that are read more than once: those of a training run.

    They are kept with the run, and go when its folder is deleted: in a place that all runs share nobody would know
    what can go.
    """
    args = trainer.args
    embeddings = trainer.data_collator.embeddings
    if not (data_args.image_cache and args.do_train) or (embeddings and embeddings.images):
        return
    folder = data_args.image_cache_dir or os.path.join(args.output_dir, "image_cache")
    collators = {"validation": trainer.data_collator} if args.eval_strategy != "no" else {}
    if not data_args.streaming:
        collators["train"] = trainer.train_collator
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", args.world_size))
    with args.main_process_first(desc="decoding images"):
        for name, collator in collators.items():
            if name in parts:
                cache_images(parts[name], collator, folder, data_args.image_cache_gib, processes)


def build_metrics(processor, parts, name, summary):
    """The metrics of one part, or None where there is no such part or it has no answers."""
    if name not in parts or "answer" not in parts[name].column_names:
        return None
    majority = majority_answers(summary.answers.elements()) if summary else None
    return AnswerMetrics(processor, parts[name]["answer"][:], majority, score_figures)


def record(trainer, name, metrics, shown=True):
    """Logs and saves the figures of one part, and notes those of a training run for the model card."""
    if shown:
        trainer.log_metrics(name, metrics)
    with named(os.path.join(trainer.args.output_dir, f"{name}_results.json")):
        trainer.save_metrics(name, metrics)
    card = trainer.model.config.model_card
    if name == "train":
        card["settings"].append(["training time", f"{metrics['train_runtime'] / 60:.1f} minutes"])
        if metrics.get("averaged_checkpoints"):
            card["settings"].append(["weights", f"mean of the last {metrics['averaged_checkpoints']} checkpoints"])
    elif trainer.args.do_train or name == "calibration":  # a model that is only evaluated keeps its training's card
        card.setdefault("results", {})["validation" if name == "eval" else name] = figures(metrics, name)


def evaluate(trainer):
    """Evaluates the validation part; gives the logits that its figures come from, or None where it has no answers."""
    compute_metrics, kept = trainer.compute_metrics, []

    def keep(prediction):
        kept.append(prediction.predictions)
        return compute_metrics(prediction)

    trainer.compute_metrics = compute_metrics and keep
    record(trainer, "eval", trainer.evaluate())
    trainer.compute_metrics = compute_metrics
    return kept[0] if kept else None


def train_blind(trainer, parts, names, summary, data_args, resume):
    """Trains a model without letting it see images; gives its logits for the parts that are named."""
    folder, processor = trainer.args.output_dir, trainer.processing_class
    embeddings = trainer.data_collator.embeddings
    if embeddings and embeddings.images:
        blind, place = VQACollator(processor, blind=True), os.path.join(folder, "embeddings")
        unseen = embed_parts(trainer.model, blind, parts, place, trainer.args.device, towers=["vision"])
        embeddings = unseen and FrozenEmbeddings(unseen.images, embeddings.questions)
    for collator in (trainer.data_collator, trainer.train_collator):
        collator.blind, collator.embeddings = True, embeddings
    pixels = data_args.image_cache_dir or os.path.join(os.path.dirname(folder), "image_cache")
    keep_images(trainer, parts, dataclasses.replace(data_args, image_cache_dir=pixels))
    trainer.model.config.model_card["settings"].append(["pictures", "not seen: all pixels are the mean"])
    logger.info("training again without images, for the report")
    result = trainer.train(resume_from_checkpoint=newest_checkpoint(folder) if resume else None)
    trainer.save_model(_internal_call=True)
    trainer.save_state()
    record(trainer, "train", result.metrics, shown=False)  # its figures are in the report, beside the others
    logits = {}
    for name in names:
        trainer.compute_metrics, prefix = build_metrics(processor, parts, name, summary), PREFIXES[name]
        output = trainer.predict(parts[name], metric_key_prefix=prefix)
        record(trainer, prefix, output.metrics, shown=False)
        logits[name] = output.predictions
    trainer.create_model_card()
    return logits


def main(argv=None):
    with plain_errors(), contextlib.ExitStack() as held:
        run(sys.argv[1:] if argv is None else argv, held)


def run(argv, held):
    """One run from its flags to its push; `held` keeps its folder for it alone."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    for name in ("httpx", "datasets", "filelock"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Of images whose EXIF block is malformed: they are read all the same, and it names no file.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")
    datasets.disable_progress_bars()

    check_flags(argv)
    model_args, data_args, augmentation_args, training_args = parse_arguments(argv)
    if data_args.pretrain:
        select_by_loss(training_args)
    check_selection(training_args, data_args, model_args.early_stopping_patience)
    if training_args.should_save:
        held.enter_context(claimed(training_args.output_dir))
    checkpoint = find_checkpoint(training_args.resume_from_checkpoint, training_args.output_dir)
    if training_args.do_train and training_args.average_checkpoints:
        refuse_other_runs(training_args.output_dir, checkpoint)
    set_seed(training_args.seed)
    augmentation = build_augmentation(augmentation_args)
    loaded = load(model_args.model_name_or_path) if model_args.model_name_or_path else None
    if loaded is None:
        check_new_model(model_args)
    if model_args.ensemble_with:  # before the data are read: it may not fit
        together = load_together(
            [model_args.model_name_or_path, *model_args.ensemble_with], model_args.ensemble_average
        )
    if loaded:
        warn_of_settings_of_new_models(model_args)
    if model_args.teacher:
        teaching = load_together(model_args.teacher, "probabilities")
    parts, raw, bad = prepare_datasets(data_args, training_args.do_train or model_args.fit_familiarity)
    if data_args.streaming and training_args.do_train:
        parts["train"] = open_training_rows(data_args, training_args)
    summary = summary_of(parts["train"]) if "train" in parts else None
    check_parts(training_args, parts)
    reported = [name for name in PREFIXES if name in parts and "answer" in parts[name].column_names]
    columns = choose_columns({name: parts[name] for name in reported}, model_args.report_columns)
    if bad:
        list_bad_rows(bad, training_args.output_dir)
    model, processor = loaded or build(model_args, data_args, summary)
    if loaded and not training_args.do_train and (model.config.model_card or {}).get("pretraining"):
        logger.warning("%s is only pre-trained: its answers mean nothing yet", model_args.model_name_or_path)
    if "validation" in parts and "answer" in parts["validation"].column_names:
        types = {QUESTION_TYPES[question_type_of(consensus(answer))] for answer in parts["validation"]["answer"][:]}
        check_selection(training_args, data_args, 0, model.config.heads, sorted(types))
    if model_args.new_answers:
        renew_answers(model, processor, data_args, summary)
    report_data(parts, summary, processor)
    if training_args.do_train:
        freeze_parameters(model, training_args.freeze_parameters)  # also by the Trainer, but that comes late
    report_parameters(model)
    calibrating = wants_calibration(model_args, training_args, data_args, parts, processor, model.config.heads)
    if model_args.ensemble_with:
        model, processor = together[0], processor.without_calibration()
    if model_args.quantization:
        model = optimize_for_inference(model, model_args.quantization)
    if training_args.do_train:
        if not data_args.pretrain:
            check_vocabulary(summary, processor, model)
            check_heads(model.config.heads, summary, processor)
        model.config.model_card = run_record(
            model_args, data_args, augmentation_args, training_args, parts, summary, processor.answers
        )
    embeddings = None
    towers = check_embeddings(model, model_args, data_args, augmentation) if training_args.do_train else []
    if towers:
        folder = os.path.join(training_args.output_dir, "embeddings")
        embeddings = embed_parts(model, VQACollator(processor), parts, folder, training_args.device, towers=towers)
    teacher = None
    if model_args.teacher:
        check_teacher(*teaching, model, processor)
        teacher = ask_teacher(*teaching, parts["train"], processor, training_args)
    blind = copy.deepcopy(model) if model_args.report_blind else None  # it starts where the other does
    trainer = build_trainer(
        model, processor, parts, summary, model_args, data_args, training_args, augmentation, embeddings, teacher
    )
    if model_args.ensemble_with:
        trainer.data_collator = together[1]
    trainer.check_resumed(checkpoint)
    if training_args.do_train:
        trainer.freeze_parameters()
        trainer.check_rows()
    keep_images(trainer, parts, data_args)

    if training_args.do_train:
        result = trainer.train(resume_from_checkpoint=checkpoint)
        trainer.save_model(_internal_call=True)  # a push comes last: it may fail, and has nothing to say yet
        held.enter_context(model_is_kept(training_args.output_dir))
        with named(os.path.join(training_args.output_dir, "trainer_state.json")):
            trainer.save_state()
        record(trainer, "train", result.metrics)

    logits = {}  # of the evaluated parts, for the report
    if training_args.do_eval and "validation" in parts:
        logits["validation"] = evaluate(trainer)

    if calibrating:
        record(trainer, "calibration", calibrate(trainer, parts, model_args))
        trainer.save_model(_internal_call=True)

    if "test" in parts and (training_args.do_eval or training_args.do_predict):
        trainer.compute_metrics = build_metrics(processor, parts, "test", summary)
        if trainer.compute_metrics is None:  # nothing needs all the logits; of many rows they fill the memory
            trainer.preprocess_logits_for_metrics = lambda logits, _: ranked_arrays(logits, processor, model_args.top_k)
        output = trainer.predict(parts["test"], metric_key_prefix="test")
        record(trainer, "test", output.metrics)
        if trainer.compute_metrics is not None:
            logits["test"] = output.predictions
        if training_args.do_predict and trainer.is_world_process_zero():
            path = os.path.join(training_args.output_dir, "predictions.jsonl")
            arrays = output.predictions
            if trainer.compute_metrics is not None:
                arrays = ranked_arrays(arrays, processor, model_args.top_k)
            with named(path):
                write_predictions(path, decoded(arrays, processor), parts["test"]["row"], raw["test"])
            logger.info("%d predictions written to %s", len(parts["test"]), path)

    if training_args.do_train:
        trainer.create_model_card()

    if training_args.do_eval and model_args.report and not data_args.pretrain:
        unseen = None
        if blind is not None:
            with only_warned("no model without images"):
                blind_args = blind_arguments(training_args)
                blind_trainer = build_trainer(
                    blind,
                    processor.without_calibration(),  # a copy: training drops what its processor knows
                    parts,
                    summary,
                    model_args,
                    data_args,
                    blind_args,
                    augmentation,
                    embeddings,
                    teacher,
                )
                unseen = train_blind(blind_trainer, parts, logits, summary, data_args, checkpoint)
        if trainer.is_world_process_zero():
            with only_warned("no report"):
                about = describe_run(trainer.model, model_args, training_args)
                fitted_on = "validation" if calibrating else None
                run = EvaluatedRun(parts, logits, unseen, columns, about, fitted_on)
                write_report(training_args.output_dir, run, processor)

    if training_args.push_to_hub:
        trainer.push_to_hub()


def stop_processes():
    """Ends the group of processes that `accelerate launch` started, if there is one: torch warns where nobody does."""
    PartialState().destroy_process_group()

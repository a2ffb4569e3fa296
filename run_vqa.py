"""Trains, evaluates and asks a DualVQA model: python run_vqa.py recipes/X.yaml [--any_flag value ...]"""

import contextlib
import json
import logging
import os
import sys

import datasets
from accelerate import PartialState
from transformers import EarlyStoppingCallback, set_seed
from transformers.trainer_callback import ProgressCallback

from modeling_dualvqa import CheckpointError, ContrastiveTrainer, DualVQATrainer, find_checkpoint
from modeling_dualvqa.inference import optimize_for_inference
from processing import (
    AnswerMetrics,
    AnswerVocabulary,
    PairCollator,
    StreamedRows,
    VQACollator,
    build_augmentation,
    cache_images,
    consensus,
    decoded,
    embed_parts,
    figures,
    leakage_report,
    majority_answers,
    open_training_rows,
    prepare_datasets,
    ranked_arrays,
    reason_against,
    run_record,
    summary_of,
    write_predictions,
)
from run_vqa_arguments import check_request, parse_arguments, select_by_loss
from run_vqa_calibration import calibrate, wants_calibration
from run_vqa_models import (
    ask_teacher,
    build,
    check_teacher,
    check_vocabulary,
    load,
    load_together,
    renew_answers,
)

logger = logging.getLogger("run_vqa")


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


class ShortProgressCallback(ProgressCallback):
    """The Trainer's progress bar, with a line of the figures one watches; trainer_state.json has them all."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or self.training_bar is None or len(logs or ()) < 2:
            return
        shown = [f"{label} {float(logs[key]):.4g}" for key, label in SHOWN_WHILE_TRAINING.items() if key in logs]
        if len(shown) > 1:
            self.training_bar.write(", ".join(shown))


def report_data(parts, summary, processor):
    """Logs sizes, vocabulary coverage, leakage and cut questions of every part."""
    vocabulary = AnswerVocabulary(processor.answers)
    streamed = isinstance(parts.get("train"), StreamedRows)
    for name, rows in parts.items():
        if name == "train":
            images = "images that are read while training" if streamed else f"{summary.images} images"
            logger.info("train: %d questions about %s", summary.rows, images)
            report_lengths(name, summary.questions if streamed else rows["question"], processor)
            report_coverage(name, vocabulary, summary.answers.elements())
            continue
        logger.info("%s: %d questions about %d images", name, len(rows), len(set(rows["image_key"])))
        report_lengths(name, rows["question"], processor)
        if "answer" in rows.column_names:
            report_coverage(name, vocabulary, map(consensus, rows["answer"]))
            if "train" in parts and not streamed:
                leaks = leakage_report(parts["train"], rows)
                logger.info("%s, seen in training: %s", name, json.dumps(leaks))
                if leaks["images_seen"]:
                    logger.warning("%s shares %d images with the training part", name, leaks["images_seen"])
            elif streamed:
                logger.warning("%s is not compared with the training part: that would have to be in memory", name)
    logger.info("vocabulary: %d open-ended answers", len(vocabulary))


def report_lengths(name, questions, processor):
    limit, cut = processor.tokenizer.model_max_length, 0
    questions = list(questions)
    for start in range(0, len(questions), 1000):  # all encodings at once would be hundreds of megabytes
        encoded = processor.tokenizer(questions[start : start + 1000], truncation=False)
        cut += sum(len(ids) > limit for ids in encoded["input_ids"])
    if cut:
        logger.warning("%s: %d questions are longer than %d tokens and are cut", name, cut, limit)


def report_coverage(name, vocabulary, answers):
    coverage = vocabulary.coverage(answers)
    if coverage is not None:
        logger.info("%s: %.1f %% of the open-ended answers are in the vocabulary", name, 100 * coverage)


def report_parameters(model):
    """Logs the number of parameters of each part, and how many of them training changes."""
    for name, count in model.parameter_counts().items():
        logger.info("%-20s %12s parameters", name, f"{count:,}")
    logger.info("%-20s %12s parameters", "trainable", f"{model.num_parameters(only_trainable=True):,}")


def check_parts(training_args, parts):
    """Refuses to start where what is asked for at the end has no data."""
    if training_args.do_predict and "test" not in parts:
        raise ValueError(f"--do_predict needs a test part, found {', '.join(parts)}; give --test_file")
    if training_args.do_eval and not ({"validation", "test"} & set(parts)):
        raise ValueError("--do_eval needs a validation or test part; give one, or a --validation_fraction above 0")


def list_bad_rows(bad, folder):
    """Writes the rows that were left out to bad_examples.jsonl."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "bad_examples.jsonl")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in bad)
    logger.warning("%d rows left out, listed in %s", len(bad), path)


def check_embeddings(model, model_args, data_args, augmentation):
    """Whether frozen towers are run once for the whole run; refused where that is asked for and can't be."""
    if model_args.cache_embeddings == "false":
        return False
    reason = reason_against(model, augmentation, data_args.streaming)
    if reason and model_args.cache_embeddings == "true":
        raise ValueError(f"--cache_embeddings true: {reason}")
    if reason and model.config.freeze_vision and model.config.freeze_text:
        logger.info("both towers are frozen, but run in every epoch: %s", reason)
    return reason is None


def build_trainer(
    model, processor, parts, summary, model_args, data_args, training_args, augmentation, embeddings, teacher
):
    """The Trainer with its collators, its metric and a short progress line."""
    validation = parts.get("validation")
    classes = (ContrastiveTrainer, PairCollator) if data_args.pretrain else (DualVQATrainer, VQACollator)
    trainer_class, collator = classes
    trainer = trainer_class(
        model=model,
        args=training_args,
        train_dataset=parts.get("train"),
        eval_dataset=validation,
        data_collator=collator(processor, embeddings=embeddings),
        train_collator=collator(processor, augmentation, training_args.seed, embeddings, teacher),
        answer_counts=[summary.answers[answer] for answer in processor.answers] if summary else None,
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
    if not (data_args.image_cache and args.do_train) or trainer.data_collator.embeddings:
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
    return AnswerMetrics(processor, parts[name]["answer"], majority)


def record(trainer, name, metrics):
    """Logs and saves the figures of one part, and notes those of a training run for the model card."""
    trainer.log_metrics(name, metrics)
    trainer.save_metrics(name, metrics)
    card = trainer.model.config.model_card
    if name == "train":
        card["settings"].append(["training time", f"{metrics['train_runtime'] / 60:.1f} minutes"])
    elif trainer.args.do_train or name == "calibration":  # a model that is only evaluated keeps its training's card
        card.setdefault("results", {})["validation" if name == "eval" else name] = figures(metrics, name)


@contextlib.contextmanager
def plain_errors(kinds=(ValueError, ImportError, OSError)):
    """What the user can mend is told in a line, without a traceback."""
    try:
        yield
    except kinds as error:
        raise SystemExit(f"error: {error}") from error


def main(argv=None):
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    for name in ("httpx", "datasets", "filelock"):
        logging.getLogger(name).setLevel(logging.WARNING)
    datasets.disable_progress_bars()

    with plain_errors():
        model_args, data_args, augmentation_args, training_args = parse_arguments(
            sys.argv[1:] if argv is None else argv
        )
        check_request(training_args, model_args, data_args)
        if data_args.pretrain:
            select_by_loss(training_args)
        checkpoint = find_checkpoint(training_args.resume_from_checkpoint, training_args.output_dir)
        set_seed(training_args.seed)
        augmentation = build_augmentation(augmentation_args)
        loaded = load(model_args.model_name_or_path) if model_args.model_name_or_path else None
        if model_args.ensemble_with:  # before the data are read: it may not fit
            together = load_together(
                [model_args.model_name_or_path, *model_args.ensemble_with], model_args.ensemble_average
            )
        if loaded and (model_args.config or model_args.vision_model_name_or_path or model_args.text_model_name_or_path):
            logger.warning(
                "configuration and towers of the saved model are kept; --config, "
                "--vision_model_name_or_path and --text_model_name_or_path have no effect"
            )
        if model_args.teacher:
            teaching = load_together(model_args.teacher, "probabilities")
        parts, raw, bad = prepare_datasets(data_args, training_args.do_train or model_args.fit_familiarity)
        if data_args.streaming and training_args.do_train:
            parts["train"] = open_training_rows(data_args, training_args)
        summary = summary_of(parts["train"]) if "train" in parts else None
        check_parts(training_args, parts)
        if bad:
            list_bad_rows(bad, training_args.output_dir)
        model, processor = loaded or build(model_args, data_args, summary)
        if loaded and not training_args.do_train and (model.config.model_card or {}).get("pretraining"):
            logger.warning("%s is only pre-trained: its answers mean nothing yet", model_args.model_name_or_path)
        if model_args.new_answers:
            renew_answers(model, processor, data_args, summary)
        report_data(parts, summary, processor)
        report_parameters(model)
        calibrating = wants_calibration(model_args, training_args, data_args, parts, processor, model.config.heads)
        if model_args.ensemble_with:
            model, processor = together[0], processor.without_calibration()
        if model_args.quantization:
            model = optimize_for_inference(model, model_args.quantization)
        if training_args.do_train:
            if not data_args.pretrain:
                check_vocabulary(summary, processor, model)
            model.config.model_card = run_record(
                model_args, data_args, augmentation_args, training_args, parts, summary, processor.answers
            )
        embeddings = None
        if training_args.do_train and check_embeddings(model, model_args, data_args, augmentation):
            folder = os.path.join(training_args.output_dir, "embeddings")
            embeddings = embed_parts(model, VQACollator(processor), parts, folder, training_args.device)
        teacher = None
        if model_args.teacher:
            check_teacher(*teaching, model, processor)
            teacher = ask_teacher(*teaching, parts["train"], processor, training_args)
        trainer = build_trainer(
            model, processor, parts, summary, model_args, data_args, training_args, augmentation, embeddings, teacher
        )
        if model_args.ensemble_with:
            trainer.data_collator = together[1]
        trainer.check_resumed(checkpoint)
        keep_images(trainer, parts, data_args)

    if training_args.do_train:
        with plain_errors(CheckpointError):
            result = trainer.train(resume_from_checkpoint=checkpoint)
        trainer.save_model(_internal_call=True)  # a push comes last: it may fail, and has nothing to say yet
        trainer.save_state()
        record(trainer, "train", result.metrics)

    if training_args.do_eval and "validation" in parts:
        record(trainer, "eval", trainer.evaluate())

    if calibrating:
        record(trainer, "calibration", calibrate(trainer, parts, model_args))
        trainer.save_model(_internal_call=True)

    if "test" in parts and (training_args.do_eval or training_args.do_predict):
        trainer.compute_metrics = build_metrics(processor, parts, "test", summary)
        if trainer.compute_metrics is None:  # nothing needs all the logits; of many rows they fill the memory
            trainer.preprocess_logits_for_metrics = lambda logits, _: ranked_arrays(logits, processor, model_args.top_k)
        output = trainer.predict(parts["test"], metric_key_prefix="test")
        record(trainer, "test", output.metrics)
        if training_args.do_predict and trainer.is_world_process_zero():
            path = os.path.join(training_args.output_dir, "predictions.jsonl")
            arrays = output.predictions
            if trainer.compute_metrics is not None:
                arrays = ranked_arrays(arrays, processor, model_args.top_k)
            write_predictions(path, decoded(arrays, processor), parts["test"]["row"], raw["test"])
            logger.info("%d predictions written to %s", len(parts["test"]), path)

    if training_args.do_train:
        trainer.create_model_card()
    if training_args.push_to_hub:
        with plain_errors():
            trainer.push_to_hub()


if __name__ == "__main__":
    main()
    PartialState().destroy_process_group()

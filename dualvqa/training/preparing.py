"""What a trainer makes of the data that it is given: canonical rows, collators, metrics, and what is computed once."""

import logging
import os

import datasets

from processing import (
    AnswerMetrics,
    EnsembleCollator,
    SoftLabels,
    StreamedRows,
    VQACollator,
    build_augmentation,
    majority_answers,
    summary_of,
)
from processing.columns import are_questions
from processing.datasets import prepare_part
from processing.python_rows import column_names, is_canonical, is_raw, source_rows, with_columns
from processing.streaming import open_training_rows
from processing.yes_no import settle_rules

from .arguments import DualVQATrainingArguments
from .auxiliary import AuxiliaryTargets
from .data_checks import (
    answers_to_balance,
    check_heads,
    check_target,
    check_vocabulary,
    list_bad_rows,
    listing_bad_rows,
    report_data,
    report_parameters,
)
from .embeddings import embed_parts, reasons_against
from .image_cache import cache_images
from .presets import log_filled
from .record import recorded_majority, remembered_columns

logger = logging.getLogger(__name__)


def are_datasets(rows):
    """Whether this is a dict of datasets, as the Trainer takes them for evaluation, and not one of columns."""
    if not isinstance(rows, dict) or isinstance(rows, datasets.DatasetDict):
        return False
    firsts = [own[0] for own in rows.values() if isinstance(own, (list, tuple)) and own]
    return not isinstance(rows.get("image"), (list, tuple)) and all(isinstance(first, dict) for first in firsts)


def part_name(prefix):
    """The part that figures with a prefix are of: eval -> validation, eval_NAME -> validation-NAME, test -> test."""
    start, _, name = prefix.partition("_")
    return "-".join(["validation", *([name] if name else [])]) if start == "eval" else prefix


class PreparingMixin:
    """How [`DualHeadTrainer`] brings its data into the form that it trains with."""

    collator_class = VQACollator
    score_figures = None  # further figures of an evaluation, see `AnswerMetrics`

    def canonical(self, rows, name, needs_answers=True):
        """Rows of one part as the collator reads them, checked; those that are ready made as they are.

        Rows that are left out are listed in bad_examples.jsonl, in the output folder.

        Raises:
            ValueError: see `prepare_dataset`.
        """
        part = {"train_dataset": "train", "test_dataset": "test"}.get(name, "validation")
        if name == "eval_dataset" and are_datasets(rows):
            return {key: self.canonical(own, f"{name} {key}", needs_answers) for key, own in rows.items()}
        if isinstance(rows, datasets.IterableDataset) and self.reads_rows:
            if name != "train_dataset":
                raise ValueError(f"{name}: only training rows are read as a stream; give a Dataset")
            return open_training_rows(self.data_args, self.given_args, rows)
        if not (self.reads_rows and is_raw(rows)):
            return rows
        with listing_bad_rows(self.given_args.output_dir):
            found, bad = prepare_part(
                source_rows(rows, name, self.data_args), part, self.data_args, needs_answers, source=name
            )
        if bad:
            list_bad_rows(bad, self.given_args.output_dir)
        return found

    def take_data(self, given, column_mapping, data_args):
        """Brings the arguments of the Trainer that concern data into their final form, in place.

        Rows for a collator of one's own stay as they are.

        Args:
            given: `train_dataset`, `eval_dataset`, `data_collator`, `processing_class`, `compute_metrics` and `args`,
                as far as they are given.
            column_mapping, data_args: see [`DualHeadTrainer`].

        Raises:
            ValueError: see `prepare_dataset`; raw rows without a processor.
        """
        if not isinstance(given["args"], DualVQATrainingArguments):
            raise ValueError(f"args must be DualVQATrainingArguments, found {type(given['args']).__name__}")
        model = given.get("model")
        start = getattr(model, "start", None)
        data_args = start.data_args(data_args) if start else data_args
        self.data_args, self.given_args = with_columns(data_args, column_mapping), given["args"]
        self.data_args.remembered_columns = remembered_columns(model) or self.data_args.remembered_columns
        processor, collator = given.get("processing_class"), given.get("data_collator")
        self.reads_rows = collator is None or isinstance(collator, (VQACollator, EnsembleCollator))
        if hasattr(processor, "answers"):
            settle_rules(self.data_args, processor=processor)
        parts = [given.get(f"{part}_dataset") for part in ("train", "eval")]
        raw = [rows for rows in parts if is_raw(rows) and are_questions(column_names(rows), self.data_args)]
        self.reads_rows = self.reads_rows and hasattr(processor, "answers")
        if raw and collator is None and not self.reads_rows:
            raise ValueError(
                "rows with images and questions need processing_class, the processor of the model that build_model or "
                "load_model gave"
            )
        for part, rows in zip(("train", "eval"), parts):
            if rows is not None:
                given[f"{part}_dataset"] = self.canonical(rows, f"{part}_dataset")
        self.train_summary = None
        self.complete = hasattr(processor, "answers") and hasattr(processor, "image_processor")
        train = given.get("train_dataset")
        if not self.complete or (train is not None and not is_canonical(train)):
            return
        answered = train is not None and not isinstance(train, StreamedRows) and "answer" in train.column_names
        rules = settle_rules(self.data_args, train["answer"][:] if answered else (), processor)
        if train is not None:
            self.train_summary = summary_of(train, rules)
            if start and start.to_train and not hasattr(model, "peft_config"):  # adapters want other settings
                before, given["args"] = given["args"], start.preset.training_arguments(given["args"])
                log_filled(start.preset, before, given["args"])
        if collator is None:
            # With metrics an evaluation's loss is that of all rows, see `evaluation_loop`; without, that of batches.
            soft = self.soft_labels(processor) if given.get("compute_metrics", "ours") is None else []
            given["data_collator"] = self.collator_class(processor, further=soft)
        if "compute_metrics" not in given:
            majority = self.majority_of(given.get("model"))
            given["compute_metrics"] = self.default_metrics(processor, given.get("eval_dataset"), majority)

    def majority_of(self, model):
        """question type -> the most frequent training answer: that of the training part, or, without one, of the
        training that the saved model remembers; {} where neither is known."""
        if self.train_summary:
            majority = majority_answers(self.train_summary.answers.elements())
            return {kind: self.train_summary.written(form) for kind, form in majority.items()}
        return recorded_majority(getattr(getattr(model, "config", None), "model_card", None))

    def default_metrics(self, processor, rows, majority):
        """[`AnswerMetrics`] for some rows; they take the answers of others when others are evaluated."""
        if isinstance(rows, dict):
            rows = next(iter(rows.values()), None)
        answers = rows["answer"][:] if rows is not None and "answer" in rows.column_names else []
        metrics = AnswerMetrics(processor, answers, majority, self.score_figures)
        return metrics.for_rows(rows) if answers else metrics  # what they can't score is refused before training

    def check_processor(self):
        """
        Raises:
            ValueError: the processor has not as many answers as the model.
        """
        config, processor = self.accelerator.unwrap_model(self.model).config, self.processing_class
        if self.complete and "open_ended" in config.heads and config.num_answers != len(processor.answers):
            raise ValueError(
                f"the model has {config.num_answers} open-ended answers and the processor {len(processor.answers)}: "
                f"take both from the same build_model or load_model"
            )

    def forget_calibration(self):
        """Drops what earlier calibration found, and the memory: they hold for the weights that they were made with."""
        model = self.accelerator.unwrap_model(self.model)
        processor = self.processing_class
        calibrated = getattr(processor, "calibration", None)
        if calibrated or model.config.familiarity:
            logger.warning("the calibration of the model that training goes on from is dropped; calibrate it anew")
        if model.config.memory:
            logger.warning("the memory of the model that training goes on from is dropped; make it anew")
            processor.memory_answers = []
        if calibrated:
            processor.calibration = None
        ((model.config.model_card or {}).get("results") or {}).pop("calibration", None)
        model.forget_familiarity()
        model.forget_memory()

    def default_targets(self):
        """What is learned besides the answers, and what losses and sampling need to know of the training answers."""
        train, processor = self.train_dataset, self.processing_class
        if self.train_summary is None:
            return
        if self.answer_counts is None:
            self.answer_counts = self.train_summary.counts_of(processor.answers, self.data_args.target)
        if self.args.balanced_sampling and self.train_answers is None and not isinstance(train, StreamedRows):
            self.train_answers = answers_to_balance(train, processor)
        if self.args.auxiliary_columns and self.auxiliary is None:
            self.auxiliary = AuxiliaryTargets.of_rows(train, self.args.auxiliary_columns)

    def default_train_collator(self):
        """The collator of training, with the labels of auxiliary heads; `prepare_inputs` gives it its augmentation."""
        self.augments = isinstance(self.data_collator, self.collator_class) and self.train_summary is not None
        if not self.augments:
            return self.data_collator
        further = self.soft_labels(self.processing_class) + ([self.auxiliary] if self.auxiliary else [])
        return self.collator_class(self.processing_class, further=further)

    def soft_labels(self, processor):
        """[[`SoftLabels`]] where several people's answers are learned as such; [] otherwise.

        Raises:
            ValueError: with label smoothing, which is for one right answer.
        """
        if self.data_args.target != "soft":
            return []
        if self.given_args.label_smoothing_factor:
            raise ValueError(
                "--label_smoothing_factor spreads one right answer over all, and with --target soft people have done "
                "so; leave one of the two out"
            )
        return [SoftLabels(processor, self.data_args.soft_score)]

    def parts(self):
        """name -> canonical rows of training and validation; of several validation parts it is the first."""
        validation = next(iter(self.validation_parts().values()), None)
        found = {"train": self.train_dataset, "validation": validation}
        return {name: rows for name, rows in found.items() if rows is not None and is_canonical(rows)}

    def validation_parts(self):
        """prefix of the figures -> rows: "eval", or where `eval_dataset` is a dict "eval_NAME" of each in it."""
        if isinstance(self.eval_dataset, dict):
            return {f"eval_{name}": rows for name, rows in self.eval_dataset.items()}
        return {} if self.eval_dataset is None else {"eval": self.eval_dataset}

    def all_parts(self):
        """name -> canonical rows of training and every validation part, as the card and the report name them."""
        found = {"train": self.train_dataset}
        found |= {part_name(prefix): rows for prefix, rows in self.validation_parts().items()}
        return {name: rows for name, rows in found.items() if rows is not None and is_canonical(rows)}

    def describe_data(self, further=None, trains=True):
        """Logs size, coverage and leakage of each part, and before training the parameters of the model.

        Args:
            further: name -> canonical rows of other parts, such as the test part.
            trains: whether the model is to be trained on them.
        """
        if self.complete:
            parts = {**self.all_parts(), **(further or {})}
            leakages = {name: self.leakage(rows) for name, rows in parts.items() if name != "train"}
            report_data(parts, self.train_summary, self.processing_class, leakages, self.says_yes_and_no())
            for name, rows in parts.items():
                self.tell_of(name, rows)
            if trains:
                report_parameters(self.accelerator.unwrap_model(self.model))
        self.described = True

    def says_yes_and_no(self):
        """Whether the model has a head for yes and no."""
        return "binary" in self.accelerator.unwrap_model(self.model).config.heads

    def check_data(self):
        """
        Raises:
            ValueError: training rows that no head learns from.
        """
        if self.train_summary is None:
            return
        model = self.accelerator.unwrap_model(self.model)
        check_vocabulary(self.train_summary, self.processing_class, model)
        check_heads(model.config.heads, self.train_summary, self.processing_class)
        check_target(self.data_args, self.train_summary, model.config.model_card)

    def prepare_inputs(self):
        """Computes once what training would compute again and again: frozen towers, decoded images.

        A search trains several times, with other arguments and other models.
        """
        if self.train_summary is None or not isinstance(self.train_collator, VQACollator):
            return
        if self.augments:
            self.train_collator.set_augmentation(build_augmentation(self.args), self.args.seed)
        if isinstance(self.data_collator, VQACollator) and (self.embedded or self.data_collator.embeddings is None):
            self.data_collator.embeddings = self.train_collator.embeddings = None
            self.embed()
        self.keep_images()

    def embed(self):
        """Runs frozen towers once for all images and questions, where that is possible.

        Raises:
            ValueError: it is asked for with `cache_embeddings` and can't be done.
        """
        towers = self.towers_to_embed()
        if towers:
            model, folder = self.accelerator.unwrap_model(self.model), os.path.join(self.args.output_dir, "embeddings")
            embeddings = embed_parts(model, self.data_collator, self.parts(), folder, towers)
            self.data_collator.embeddings = self.train_collator.embeddings = embeddings
            self.embedded = True

    def towers_to_embed(self):
        if self.args.cache_embeddings == "false":
            return []
        model = self.accelerator.unwrap_model(self.model)
        streaming = isinstance(self.train_dataset, StreamedRows)
        reasons = reasons_against(model, self.train_collator.augmentation, streaming)
        frozen = [tower for tower in reasons if getattr(model.config, f"freeze_{tower}")]
        refused = " ".join(reasons[tower] for tower in frozen or reasons if reasons[tower])
        if refused and self.args.cache_embeddings == "true":
            raise ValueError(f"--cache_embeddings true: {refused}")
        if refused and frozen:
            logger.info("not all frozen towers run once: %s", refused)
        return [tower for tower in frozen if not reasons[tower]]

    def keep_images(self):
        """Caches the decoded images of the parts that are read more than once.

        They are kept with the run, and go when its folder is deleted: in a place that all runs share nobody would know
        what can go.
        """
        args, embeddings = self.args, self.data_collator.embeddings
        if not args.image_cache or (embeddings and embeddings.images):
            return
        folder = args.image_cache_dir or os.path.join(args.output_dir, "image_cache")
        collators = {"validation": self.data_collator} if args.eval_strategy != "no" else {}
        if not isinstance(self.train_dataset, StreamedRows):
            collators["train"] = self.train_collator
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", args.world_size))
        parts = self.parts()
        with args.main_process_first(desc="decoding images"):
            for name, collator in collators.items():
                if name in parts:
                    cache_images(parts[name], collator, folder, args.image_cache_gib, processes)

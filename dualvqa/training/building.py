"""New models: towers, sizes, the vocabulary and the tokenizer from the settings and the training part."""

import dataclasses
import difflib
import json
import logging
import os
from dataclasses import dataclass, field

import torch

from modeling_dualvqa import DualVQAConfig, DualVQAForQuestionAnswering
from processing import (
    AnswerVocabulary,
    DataArguments,
    DualVQAProcessor,
    StreamedRows,
    summary_of,
    train_tokenizer,
)
from processing.python_rows import prepare_dataset, with_columns
from processing.wording import python_words
from processing.yes_no import settle_rules

from .new_model_checks import check_new_model, chosen_size, load_tokenizer, model_fields
from .presets import Preset, TrainingFacts, load_preset, log_preset
from .tower_images import INTERPOLATIONS, build_image_processor

logger = logging.getLogger(__name__)

# What a trainer must read of the answers as the new model's vocabulary was made.
LEARNED = ("target", "soft_score", "boolean_answers")
# What `build_model` takes for its `DataArguments`.
OF_ANSWERS = ("max_answers", "min_answer_frequency", "yes_answers", "no_answers", "answer_language", "metric")


@dataclass
class NewModelArguments:
    """What a new model starts from."""

    vision_model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "torchvision classifier, transformers Hub id or folder; from random weights if left out."},
    )
    vision_weights_file: str | None = field(
        default=None, metadata={"help": "State dict of the torchvision classifier, in place of the download."}
    )
    text_model_name_or_path: str | None = field(
        default=None, metadata={"help": "transformers Hub id or folder; from random weights if left out."}
    )
    tokenizer_vocab_size: int = field(
        default=8000, metadata={"help": "Largest size of a tokenizer trained on the questions, without a text model."}
    )
    max_question_length: int = field(default=64, metadata={"help": "Longer questions are cut to so many tokens."})
    image_size: int | None = field(default=None, metadata={"help": "Height and width in pixels; the tower's own."})
    image_crop: bool | None = field(
        default=None,
        metadata={
            "help": "Whether of an image only its centre is seen, as many towers were trained; false resizes all of it "
            "to the tower's height and width; the tower's own if left out."
        },
    )
    image_interpolation: str | None = field(
        default=None, metadata={"help": "How images are resized, such as bilinear or bicubic; the tower's own."}
    )
    image_mean: list[float] | None = field(default=None, metadata={"help": "Three means; the tower's own."})
    image_std: list[float] | None = field(default=None, metadata={"help": "Three deviations; the tower's own."})
    single_head: bool = field(
        default=False,
        metadata={"help": "One head for all questions: yes and no are answers among the others, and nothing routes."},
    )
    preset: str = field(
        default="auto",
        metadata={
            "help": "Settings for what is not given: auto chooses a preset from the training data, where there is no "
            "recipe; few, some, many, large or scratch takes that one; none leaves the defaults."
        },
    )

    def check_image_statistics(self):
        """
        Raises:
            ValueError: not three numbers, or no interpolation.
        """
        if self.image_interpolation not in (None, *INTERPOLATIONS):
            raise ValueError(
                f"image_interpolation must be one of {', '.join(INTERPOLATIONS)}; found {self.image_interpolation!r}"
            )
        for name in ("image_mean", "image_std"):
            if getattr(self, name) is not None and len(getattr(self, name)) != 3:
                raise ValueError(f"{name} must be three numbers, for red, green and blue; found {getattr(self, name)}")


@dataclass
class Start:
    """What a model is before a run trains it, for the run's record; its attribute `start`.

    Args:
        vision, text: names or folders of pretrained towers, or None.
        fields: those of the configuration that were chosen.
        continued_from: the saved model that it is, or None.
        preset: the [`Preset`] that has filled in fields, or None.
        to_train: whether a trainer takes the preset's arguments where its own are at their default.
        answers: those settings of the `data_args` of a new model that say what is learned of the answers.
    """

    vision: str | None = None
    text: str | None = None
    fields: dict = field(default_factory=dict)
    continued_from: str | None = None
    preset: Preset | None = None
    to_train: bool = False
    answers: dict = field(default_factory=dict)

    def data_args(self, given):
        """The [`DataArguments`] of a trainer: without any, they learn of the answers what the model was built for.

        Those that are given hold, and a warning says where they differ.
        """
        if given is None:
            return DataArguments(**self.answers)
        for name, built in self.answers.items():
            if getattr(given, name) != built:
                logger.warning(
                    "the model was built for %s %r, and is trained with %r: the data_args of build_model and of the "
                    "trainer differ",
                    name,
                    built,
                    getattr(given, name),
                )
        return given


@python_words
def build_model(rows, vision=None, text=None, column_mapping=None, data_args=None, **settings):
    """A new model and its processor for some training data.

    Args:
        rows: the training part, raw or canonical: a Dataset, IterableDataset, list of dicts, DataFrame or file. Its
            answers are the vocabulary, and without `text` its questions give the tokenizer.
        vision: a torchvision classifier such as "mobilenet_v3_small", or a transformers model: Hub id or folder. From
            random weights when left out.
        text: a transformers model, likewise.
        column_mapping: the data's columns -> "image", "question" and "answer".
        data_args: [`DataArguments`] for all else about the data, such as `max_answers`.
        **settings: fields of [`NewModelArguments`], such as `image_size=128`, and of [`DualVQAConfig`], such as
            `fusion_type="cross_attention"`, or `text_config={"n_layers": 2}` for a tower; and those of `data_args` that
            are about answers, such as `yes_answers=["ja"], no_answers=["nein"]`. What is not given is the
            preset's for these data, see `choose_preset`; with `preset="none"` the defaults of [`DualVQAConfig`].

    Returns:
        The model, and its processor.

    Raises:
        ValueError: bad rows (see `prepare_dataset`), an unknown setting, or one that no model can be built with.
        OSError: a pretrained tower isn't there.
    """
    own = [f.name for f in dataclasses.fields(NewModelArguments)]
    of_answers = [name for name in OF_ANSWERS if name in settings]
    data_args = with_columns(data_args, column_mapping)
    data_args = dataclasses.replace(data_args, **{name: settings.pop(name) for name in of_answers})
    known = [*own, *DualVQAConfig.__annotations__, *OF_ANSWERS]
    for name in settings:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f"build_model has no setting {name!r}{hint}")
    named = {"vision_model_name_or_path": vision, "text_model_name_or_path": text}
    args = NewModelArguments(**named, **{name: settings.pop(name) for name in own if name in settings})
    args.check_image_statistics()
    check_new_model(args, settings)
    rows = prepare_dataset(rows, data_args=data_args, name="the training data")
    summary = summary_with_rules(rows, data_args)
    preset = load_preset(facts_of(args, summary, isinstance(rows, StreamedRows)), args.preset)
    fields = settings
    if preset:
        args, fields = preset.new_model_arguments(args), preset.model_fields(settings)
        log_preset(preset)
    model, processor = build_new(args, fields, data_args, summary)
    model.start.preset, model.start.to_train = preset, preset is not None
    return model, processor


def choose_preset(rows, vision=None, text=None, column_mapping=None, data_args=None):
    """The [`Preset`] that `build_model` takes for some training data, to be looked at or changed.

    Args:
        rows, vision, text, column_mapping, data_args: as `build_model` takes them.

    Raises:
        ValueError: bad rows, see `prepare_dataset`.
    """
    data_args = with_columns(data_args, column_mapping)
    rows = prepare_dataset(rows, data_args=data_args, name="the training data")
    summary = summary_with_rules(rows, data_args)
    return load_preset(TrainingFacts.of(summary, vision, text, isinstance(rows, StreamedRows)))


def summary_with_rules(rows, data_args):
    """The [`TrainingSummary`] of canonical training rows, by the rules that these show; see `settle_rules`."""
    if isinstance(rows, StreamedRows) or "answer" not in rows.column_names:
        return summary_of(rows)
    return summary_of(rows, settle_rules(data_args, rows["answer"][:]))


def facts_of(args, summary, streamed):
    """The [`TrainingFacts`] of a new model's [`NewModelArguments`] and the training part's [`TrainingSummary`]."""
    return TrainingFacts.of(summary, args.vision_model_name_or_path, args.text_model_name_or_path, streamed)


def build_new(args, fields, data_args, summary):
    """A new model and its processor, with a vocabulary and, if need be, a tokenizer from the training part.

    Args:
        args: [`NewModelArguments`].
        fields: those of [`DualVQAConfig`] that are chosen.
        data_args: [`DataArguments`], for the vocabulary.
        summary: the training part's [`TrainingSummary`].
    """
    start = Start(args.vision_model_name_or_path, args.text_model_name_or_path, dict(fields))
    start.answers = {name: getattr(data_args, name) for name in LEARNED}
    fields, size = model_fields(args, fields), chosen_size(fields)
    if args.text_model_name_or_path:
        tokenizer = load_tokenizer(args.text_model_name_or_path)
        tokenizer.model_max_length = min(tokenizer.model_max_length, args.max_question_length)
    else:
        tokenizer = train_tokenizer(summary.questions, args.tokenizer_vocab_size, args.max_question_length)
        text_fields = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        fields["text_config"] = {"model_type": "distilbert", **text_fields, **(fields.get("text_config") or {})}
    answers = []
    if "open_ended" in fields.get("heads", ["open_ended"]):
        answers = training_answers(data_args, summary, args.single_head)
        fields["num_answers"] = len(answers)
    model = DualVQAForQuestionAnswering.from_vision_text_pretrained(
        args.vision_model_name_or_path, args.text_model_name_or_path, args.vision_weights_file, **fields
    )
    if answers and data_args.target == "soft":
        start_from_shares(model, summary.counts_of(answers, "soft"))
    images = build_image_processor(args, model.config.vision_config, size)
    processor = DualVQAProcessor(images, tokenizer, answers, answer_rules=summary.rules.saved())
    processor.check_model(model)
    model.start = start
    return model, processor


def start_from_shares(model, counts):
    """Lets a new open-ended head begin with each answer as likely as it is in training, and not with one in two.

    Otherwise the first steps learn nothing but that most answers are wrong (Lin et al. 2017, "Focal Loss for Dense
    Object Detection", section 3.3, initialises with a prior for that reason).

    Args:
        counts: (N,) how often each answer occurs.
    """
    counts = torch.tensor(counts, dtype=torch.float)
    with torch.no_grad():
        model.open_ended_head[-1].bias.copy_(torch.logit((counts / counts.sum()).clamp(1e-5, 0.5)))


def training_answers(data_args, summary, with_binary=False):
    """The open-ended vocabulary of a training part, most frequent first, with yes and no for a single head.

    Captions have none.
    """
    if not data_args.reads_answers:
        return []
    return AnswerVocabulary.from_training_answers(
        summary.counts(data_args.target, with_binary).elements(),
        data_args.min_answer_frequency,
        data_args.max_answers,
        with_binary,
        summary.writings,
        summary.rules,
    ).answers


@python_words
def load_model(path):
    """A saved model and its processor, ready to answer, to train on or to calibrate.

    Args:
        path: a saved folder, or the id of a repository on the Hub.

    Raises:
        ValueError: there is no DualVQA model at `path`, or a processor that isn't the model's.
        OSError: neither a folder nor a repository that can be reached.
    """
    path = os.fspath(path)
    config_file = os.path.join(path, "config.json")
    if os.path.isdir(path):
        if os.path.isfile(os.path.join(path, "adapter_config.json")):
            raise ValueError(
                f"{path} has adapters (PEFT) and no whole model: after training, save it with them merged, "
                f"trainer.model.merge_and_unload().save_pretrained(FOLDER) and the processor beside it"
            )
        found = "no config.json"
        if os.path.isfile(config_file):
            with open(config_file, encoding="utf-8") as file:
                try:
                    found = f"model_type {json.load(file)['model_type']!r}"
                except (ValueError, KeyError, TypeError, RecursionError):
                    found = "no model_type in it"
        if found != "model_type 'dualvqa'":
            raise ValueError(f"{path} is no DualVQA model: expected a config.json with model_type 'dualvqa', {found}")
    try:
        model, processor = DualVQAForQuestionAnswering.from_pretrained(path), DualVQAProcessor.from_pretrained(path)
    except OSError as error:  # of a folder that isn't there transformers tells only that the Hub isn't
        raise OSError(f"{path} is neither a saved folder nor a repository that can be reached: {error}") from error
    processor.check_model(model)
    model.start = Start(continued_from=path)
    return model, processor

"""The settings of a run: flags, recipe files, and which of them go together."""

import dataclasses
from dataclasses import dataclass, field
from typing import NamedTuple

from dualvqa.training.arguments import DualVQATrainingArguments
from dualvqa.training.building import NewModelArguments
from dualvqa.training.presets import PRESETS
from dualvqa.training.tower_images import INTERPOLATIONS
from dualvqa.trust.arguments import CalibrationArguments
from modeling_dualvqa.values_dualvqa import check_numbers
from processing import DataArguments
from processing.vqa_accuracy.languages import LANGUAGES
from processing.vqa_accuracy.rules import METRICS

from .flags import read_settings, recipe_settings

# Ranges of the groups' numbers; training's own are with its arguments.
LIMITS = {
    **{name: ">= 1" for name in ("tokenizer_vocab_size", "top_k")},
    "image_size": ">= 8, <= 16384",  # of fewer pixels a tower has nothing left after its strides
    **{name: ">= 1" for name in ("min_answer_frequency", "max_answers", "shuffle_buffer")},
    "max_question_length": ">= 3",  # a word between [CLS] and [SEP]
    "image_std": "> 0",
    "image_interpolation": INTERPOLATIONS,
    "ensemble_average": ("logits", "probabilities"),
    "cache_embeddings": ("auto", "true", "false"),
    "calibrate": ("auto", "true", "false"),
    "risk_confidence": ">= 0.5, < 1",
    "max_risk": "> 0, < 1",
    "risk_of": ("answers", "questions"),
    "on_bad_example": ("error", "skip"),
    "boolean_answers": ("words", "yes_no"),
    "answer_language": tuple(sorted(LANGUAGES)),
    "metric": METRICS,
    "pretrain": ("contrastive",),
    "target": ("majority", "soft"),
    "soft_score": ("vqa", "share"),
    "preset": ("auto", "none", *PRESETS),
    "class_weighting": ("none", "inverse", "effective"),
    "quantization": ("int8",),
    "validation_fraction": ">= 0, < 1",
    "split_by": ("image", "question", "wording"),
    "train_fraction": "> 0, <= 1",
    "folds": ">= 2",
    "cross_fit": ">= 2",
    "fold": ">= 0",
    **{name: "> 0" for name in ("max_image_megapixels", "image_cache_gib")},
}


@dataclass
class ModelArguments(NewModelArguments, CalibrationArguments):
    """Which model, what it starts from, and how it is calibrated."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Saved DualVQA folder or Hub id to go on from."}
    )
    config: list[str] = field(
        default_factory=list,
        metadata={"help": "Fields of DualVQAConfig: fusion_type=cross_attention text_config.n_layers=2 ..."},
    )
    ensemble_with: list[str] = field(
        default_factory=list,
        metadata={"help": "With --do_eval or --do_predict: other saved folders; the answers are all models' average."},
    )
    ensemble_average: str = field(default="logits", metadata={"help": "Average of logits, or of probabilities."})
    new_answers: bool = field(
        default=False,
        metadata={
            "help": "With --model_name_or_path: keep towers, fusion and yes/no head, train a new open-ended head on "
            "the answers of this data set."
        },
    )
    quantization: str | None = field(
        default=None,
        metadata={
            "help": "Without --do_train: int8 weights for evaluation and prediction on a CPU; the metrics then say "
            "what that costs in accuracy."
        },
    )
    top_k: int = field(default=5, metadata={"help": "Answers per question in the predictions file."})
    report: bool = field(
        default=True, metadata={"help": "With --do_eval: write report.html, report.json and report_rows.jsonl."}
    )

    # What recipe and command line give, by name, and whether there is a recipe.
    given, has_recipe = frozenset(), False

    def __post_init__(self):
        self.check_image_statistics()
        self.check_calibration()


class Settings(NamedTuple):
    """The groups of a run's settings."""

    model: ModelArguments
    data: DataArguments
    training: DualVQATrainingArguments


GROUPS = (ModelArguments, DataArguments, DualVQATrainingArguments)


def parse_arguments(argv):
    """The [`Settings`]: the recipe's values, and over them the command line's.

    Raises:
        ValueError: an unknown flag or recipe key, or a value that doesn't fit; the message says which.
    """
    settings = read_settings(argv)
    parsed = []
    for group in GROUPS:
        names = {field.name for field in dataclasses.fields(group) if field.init}
        parsed.append(group(**{name: value for name, value in settings.items() if name in names}))
    for group in parsed[:2]:  # that of training has checked its own
        check_numbers(group, LIMITS)
    parsed[1].from_recipe = recipe_settings(argv)
    parsed[0].given, parsed[0].has_recipe = set(settings), bool(argv) and not argv[0].startswith("-")
    return Settings(*parsed)

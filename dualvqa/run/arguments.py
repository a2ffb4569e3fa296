"""The settings of a run: flags, recipe files, and which of them go together."""

import dataclasses
import logging
from dataclasses import dataclass, field

from dualvqa.training.arguments import DualVQATrainingArguments
from dualvqa.training.contrastive import MEASURED
from modeling_dualvqa.values_dualvqa import check_numbers
from processing import AugmentationArguments, DataArguments
from processing.metrics import check_best_metric
from processing.processing_dualvqa import QUESTION_TYPES

from .calibrate import CalibrationArguments
from .flags import read_settings

logger = logging.getLogger(__name__)

# Ranges of the groups' numbers; training's own are with its arguments.
LIMITS = {
    **{name: ">= 1" for name in ("tokenizer_vocab_size", "top_k")},
    "image_size": ">= 1, <= 16384",
    "early_stopping_patience": ">= 0",
    **{name: ">= 1" for name in ("min_answer_frequency", "max_answers", "shuffle_buffer")},
    "max_question_length": ">= 3",  # a word between [CLS] and [SEP]
    "image_std": "> 0",
    "random_crop_scale": "> 0, <= 1",
    **{name: ">= 0, <= 1" for name in ("random_shift", "color_jitter", "horizontal_flip")},
    "random_rotation": ">= 0, <= 180",
    "ensemble_average": ("logits", "probabilities"),
    "cache_embeddings": ("auto", "true", "false"),
    "calibrate": ("auto", "true", "false"),
    "risk_confidence": ">= 0.5, < 1",
    "max_risk": "> 0, < 1",
    "on_bad_example": ("error", "skip"),
    "boolean_answers": ("words", "yes_no"),
    "pretrain": ("contrastive",),
    "class_weighting": ("none", "inverse", "effective"),
    "quantization": ("int8",),
    "validation_fraction": ">= 0, < 1",
    "train_fraction": "> 0, <= 1",
    "folds": ">= 2",
    "fold": ">= 0",
    **{name: "> 0" for name in ("max_image_megapixels", "image_cache_gib")},
}


@dataclass
class ModelArguments(CalibrationArguments):
    """Which model, what it starts from, and how it is calibrated."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Saved DualVQA folder or Hub id to go on from."}
    )
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
    image_mean: list[float] | None = field(default=None, metadata={"help": "Three means; the tower's own."})
    image_std: list[float] | None = field(default=None, metadata={"help": "Three deviations; the tower's own."})
    config: list[str] = field(
        default_factory=list,
        metadata={"help": "Fields of DualVQAConfig: fusion_type=cross_attention text_config.n_layers=2 ..."},
    )
    ensemble_with: list[str] = field(
        default_factory=list,
        metadata={"help": "With --do_eval or --do_predict: other saved folders; the answers are all models' average."},
    )
    ensemble_average: str = field(default="logits", metadata={"help": "Average of logits, or of probabilities."})
    teacher: list[str] = field(
        default_factory=list,
        metadata={"help": "Saved folders to learn from besides the answers; of several the mean probabilities count."},
    )
    auxiliary_columns: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Columns of the training part, such as an organ, that further heads learn besides the answers; the "
            "saved model doesn't have them."
        },
    )
    single_head: bool = field(
        default=False,
        metadata={"help": "One head for all questions: yes and no are answers among the others, and nothing routes."},
    )
    new_answers: bool = field(
        default=False,
        metadata={
            "help": "With --model_name_or_path: keep towers, fusion and yes/no head, train a new open-ended head on "
            "the answers of this data set."
        },
    )
    cache_embeddings: str = field(
        default="auto",
        metadata={
            "help": "Run frozen towers once per image and question, and keep what they give in OUTPUT_DIR/embeddings: "
            "auto, for each that is frozen, the vision tower where augmentation is off; true, or say why not; false."
        },
    )
    quantization: str | None = field(
        default=None,
        metadata={
            "help": "Without --do_train: int8 weights for evaluation and prediction on a CPU; the metrics then say "
            "what that costs in accuracy."
        },
    )
    license: str = field(default="apache-2.0", metadata={"help": "License of the weights, for the model card."})
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after so many evaluations without a better one."}
    )
    top_k: int = field(default=5, metadata={"help": "Answers per question in the predictions file."})
    report: bool = field(
        default=True, metadata={"help": "With --do_eval: write report.html, report.json and report_rows.jsonl."}
    )
    report_columns: list[str] = field(
        default_factory=list,
        metadata={"help": "Columns whose values the report shows apart; those that look like kinds when left out."},
    )
    report_blind: bool = field(
        default=False,
        metadata={
            "help": "With --do_train and --do_eval: train the same model again without seeing images, in "
            "OUTPUT_DIR/blind, and report on both."
        },
    )

    def __post_init__(self):
        if self.cache_embeddings not in ("auto", "true", "false"):
            raise ValueError(f"cache_embeddings must be auto, true or false, found {self.cache_embeddings!r}")
        for name in ("image_mean", "image_std"):
            if getattr(self, name) is not None and len(getattr(self, name)) != 3:
                raise ValueError(f"{name} must be three numbers, for red, green and blue; found {getattr(self, name)}")
        self.check_calibration()


GROUPS = (ModelArguments, DataArguments, AugmentationArguments, DualVQATrainingArguments)


def parse_arguments(argv):
    """The four argument groups: the recipe's values, and over them the command line's.

    Raises:
        ValueError: an unknown flag or recipe key, or a value that doesn't fit; the message says which.
    """
    settings = read_settings(argv)
    parsed = []
    for group in GROUPS:
        names = {field.name for field in dataclasses.fields(group) if field.init}
        parsed.append(group(**{name: value for name, value in settings.items() if name in names}))
    for group in parsed[:3]:  # that of training has checked its own
        check_numbers(group, LIMITS)
    return tuple(parsed)


def check_selection(training_args, data_args, patience, heads=QUESTION_TYPES, types=QUESTION_TYPES):
    """Refuses to choose a best state, or to stop early, by what an evaluation doesn't give.

    Args:
        patience: `early_stopping_patience`.
        heads, types: of the model and of the validation rows, where they are known.
    """
    if not training_args.do_train:  # a recipe has these settings also where it only evaluates
        return
    metric = training_args.metric_for_best_model
    chosen = training_args.load_best_model_at_end or training_args.save_strategy == "best" or patience
    if chosen and not data_args.pretrain:  # pre-training has figures of its own: see `select_by_loss`
        check_best_metric(metric, heads, types)
    if not patience:
        return
    for lacks, need in (
        (training_args.eval_strategy == "no", "evaluations while training: give eval_strategy epoch or steps"),
        (metric is None, "metric_for_best_model, which it watches, such as routed_accuracy"),
        (
            not training_args.load_best_model_at_end,
            "load_best_model_at_end, or the last state is kept and not the best",
        ),
    ):
        if lacks:
            raise ValueError(f"early_stopping_patience {patience} needs {need}")


def select_by_loss(training_args):
    """Lets pre-training choose the best state by its own figures: it has no accuracies."""
    metric = (training_args.metric_for_best_model or "loss").removeprefix("eval_")
    if metric not in MEASURED:
        logger.warning("pre-training has no %s: the best state is that with the lowest eval_loss", metric)
        training_args.metric_for_best_model, training_args.greater_is_better = "loss", False

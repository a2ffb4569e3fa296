"""The data side of DualVQA: processor, answers, data sets, collator and metric."""

from .answers import AnswerVocabulary, consensus, normalise_answer
from .collator import AugmentationArguments, VQACollator, build_augmentation
from .datasets import BadExampleError, DataArguments, leakage_report, prepare_datasets, split_by_image
from .image_processing_dualvqa import DualVQAImageProcessor
from .metrics import AnswerMetrics, VQAAccuracy, majority_answers, named_logits
from .processing_dualvqa import DualVQAProcessor, train_tokenizer

__all__ = [
    "AnswerMetrics",
    "AnswerVocabulary",
    "AugmentationArguments",
    "BadExampleError",
    "DataArguments",
    "DualVQAImageProcessor",
    "DualVQAProcessor",
    "VQAAccuracy",
    "VQACollator",
    "build_augmentation",
    "consensus",
    "leakage_report",
    "majority_answers",
    "named_logits",
    "normalise_answer",
    "prepare_datasets",
    "split_by_image",
    "train_tokenizer",
]

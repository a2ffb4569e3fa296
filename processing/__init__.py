"""The data side of DualVQA: processor, answers, data sets, collator and metric."""

from transformers import AutoImageProcessor

from .answers import AnswerVocabulary, consensus, normalise_answer
from .collator import AugmentationArguments, VQACollator, build_augmentation
from .datasets import BadExampleError, DataArguments, leakage_report, prepare_datasets, split_by_image
from .image_cache import ImageCache, cache_images
from .image_processing_dualvqa import DualVQAImageProcessor
from .metrics import AnswerMetrics, VQAAccuracy, majority_answers, named_logits
from .predictions import write_predictions
from .processing_dualvqa import DualVQAProcessor, train_tokenizer
from .run_record import figures, run_record
from .streaming import StreamedRows, open_training_rows
from .summary import TrainingSummary, summarise, summary_of

# A processor loads its image processor by the class name in the saved file. The key would be a model configuration,
# which the data side doesn't know; the class stands in for it.
AutoImageProcessor.register(
    DualVQAImageProcessor, image_processor_classes={"torchvision": DualVQAImageProcessor}, exist_ok=True
)

__all__ = [
    "AnswerMetrics",
    "AnswerVocabulary",
    "AugmentationArguments",
    "BadExampleError",
    "DataArguments",
    "DualVQAImageProcessor",
    "DualVQAProcessor",
    "ImageCache",
    "StreamedRows",
    "TrainingSummary",
    "VQAAccuracy",
    "VQACollator",
    "build_augmentation",
    "cache_images",
    "consensus",
    "figures",
    "leakage_report",
    "majority_answers",
    "named_logits",
    "normalise_answer",
    "open_training_rows",
    "prepare_datasets",
    "run_record",
    "split_by_image",
    "summarise",
    "summary_of",
    "train_tokenizer",
    "write_predictions",
]

"""The data side of DualVQA: processor, answers, data sets, collator and metric."""

import importlib

from transformers import AutoImageProcessor

from .image_processing_dualvqa import DualVQAImageProcessor
from .processing_dualvqa import DualVQAProcessor

# Imported when they are asked for: who only answers questions doesn't wait for pandas, datasets and scikit-learn.
HOMES = {
    "abstention": ["NoThresholdError", "choose_threshold"],
    "answers": ["AnswerVocabulary", "consensus", "difference", "normalise_answer", "question_type_of"],
    "calibration": ["LabelledLogits", "answer_names", "answer_problems", "before_and_after"],
    "collator": ["AugmentationArguments", "PairCollator", "EnsembleCollator", "VQACollator", "build_augmentation"],
    "datasets": ["BadExampleError", "DataArguments", "prepare_datasets"],
    "embeddings": ["FrozenEmbeddings", "embed_parts", "fingerprint", "reasons_against"],
    "familiarity": ["MOST_STATES", "fit_gaussian", "fit_limits"],
    "image_cache": ["ImageCache", "cache_images"],
    "metrics": ["AnswerMetrics", "VQAAccuracy", "majority_answers", "named_logits"],
    "predictions": ["decoded", "ranked_arrays", "write_predictions"],
    "processing_dualvqa": ["BINARY_ANSWERS", "QUESTION_TYPES"],
    "record": ["figures", "run_record"],
    "splits": ["fold_of", "leakage_report", "split_by_image"],
    "teacher": ["TeacherLogits", "find_teacher_logits"],
    "streaming": ["StreamedRows", "open_training_rows"],
    "tokenizer": ["train_tokenizer"],
    "summary": ["TrainingSummary", "summarise", "summary_of"],
}

# A processor loads its image processor by the class name in the saved file. The key would be a model configuration,
# which the data side doesn't know; the class stands in for it.
AutoImageProcessor.register(
    DualVQAImageProcessor, image_processor_classes={"torchvision": DualVQAImageProcessor}, exist_ok=True
)

__all__ = ["DualVQAImageProcessor", "DualVQAProcessor", *(name for names in HOMES.values() for name in names)]


def __getattr__(name):
    for home, names in HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The data side of DualVQA: processor, answers, data sets, collator and metric."""

import importlib
import sys
import warnings

from transformers import AutoImageProcessor

from .image_processing_dualvqa import DualVQAImageProcessor
from .processing_dualvqa import DualVQAProcessor

# Imported when they are asked for: who only answers questions doesn't wait for pandas, datasets and scikit-learn.
HOMES = {
    "processing.answers": [
        "AnswerRules",
        "AnswerVocabulary",
        "consensus",
        "difference",
        "normalise_answer",
        "question_type_of",
    ],
    "processing.collator": [
        "AugmentationArguments",
        "EnsembleCollator",
        "PairCollator",
        "VQACollator",
        "build_augmentation",
    ],
    "processing.bad_rows": ["BadExampleError"],
    "processing.datasets": ["DataArguments", "prepare_datasets"],
    "processing.leakage": ["held_out", "leakage_report"],
    "processing.metrics": ["AnswerMetrics", "VQAAccuracy", "majority_answers"],
    "processing.outputs": ["answers_of", "named_logits"],
    "processing.predictions": ["decoded", "ranked_arrays", "write_predictions"],
    "processing.processing_dualvqa": ["BINARY_ANSWERS", "QUESTION_TYPES"],
    "processing.python_rows": ["prepare_dataset"],
    "processing.soft_labels": ["SoftLabels"],
    "processing.splits": ["fold_of", "split_by_image", "split_dataset"],
    "processing.streaming": ["StreamedRows", "open_training_rows"],
    "processing.summary": ["TrainingSummary", "summarise", "summary_of"],
    "processing.tokenizer": ["train_tokenizer"],
}

# A processor loads its image processor by the class name in the saved file. The key would be a model configuration,
# which the data side doesn't know; the class stands in for it.
AutoImageProcessor.register(
    DualVQAImageProcessor, image_processor_classes={"torchvision": DualVQAImageProcessor}, exist_ok=True
)

__all__ = ["DualVQAImageProcessor", "DualVQAProcessor", *(name for names in HOMES.values() for name in names)]

# What was here before, by its new place: old names still come, with a warning, and old modules say where they are.
MOVED = {
    "dualvqa.training.embeddings": ["FrozenEmbeddings", "embed_parts", "fingerprint", "reasons_against"],
    "dualvqa.training.image_cache": ["ImageCache", "cache_images"],
    "dualvqa.training.record": ["figures", "run_record"],
    "dualvqa.training.teacher": ["TeacherLogits", "find_teacher_logits"],
    "dualvqa.trust.abstention": ["NoThresholdError", "choose_threshold"],
    "dualvqa.trust.calibration": ["LabelledLogits", "answer_names", "answer_problems", "before_and_after"],
}
MOVED_MODULES = {
    "processing.abstention": "dualvqa.trust.abstention",
    "processing.calibration": "dualvqa.trust.calibration",
    "processing.embeddings": "dualvqa.training.embeddings",
    "processing.familiarity": "dualvqa.trust.familiarity",
    "processing.image_cache": "dualvqa.training.image_cache",
    "processing.record": "dualvqa.training.record",
    "processing.reliability": "dualvqa.trust.reliability",
    "processing.teacher": "dualvqa.training.teacher",
}
PLACES = {name: home for home, names in {**HOMES, **MOVED}.items() for name in names}


def __getattr__(name):
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if PLACES[name] in MOVED:
        warnings.warn(f"{name} has moved: from {PLACES[name]} import {name}", FutureWarning, stacklevel=2)
    return getattr(importlib.import_module(PLACES[name]), name)


def find_spec(name, path=None, target=None):
    """Refuses the old place of a module: this package stands on `sys.meta_path`, where imports are looked up."""
    if name in MOVED_MODULES:
        raise ModuleNotFoundError(f"{name} has moved: import {MOVED_MODULES[name]}", name=name)


sys.meta_path.append(sys.modules[__name__])

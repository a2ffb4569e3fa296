"""The data side of DualVQA: processor, answers, data sets, collator and metric."""

import importlib
import sys
import warnings

from transformers import AutoImageProcessor

from .image_processing_dualvqa import DualVQAImageProcessor
from .processing_dualvqa import DualVQAProcessor

# Imported when they are asked for: who only answers questions doesn't wait for pandas, datasets and scikit-learn.
HOMES = {
    "answers": ["AnswerVocabulary", "consensus", "difference", "normalise_answer", "question_type_of"],
    "collator": ["AugmentationArguments", "PairCollator", "EnsembleCollator", "VQACollator", "build_augmentation"],
    "datasets": ["BadExampleError", "DataArguments", "prepare_datasets"],
    "metrics": ["AnswerMetrics", "VQAAccuracy", "majority_answers"],
    "outputs": ["named_logits"],
    "predictions": ["decoded", "ranked_arrays", "write_predictions"],
    "processing_dualvqa": ["BINARY_ANSWERS", "QUESTION_TYPES"],
    "splits": ["fold_of", "leakage_report", "split_by_image"],
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

# Where parts that were here are now: an old import says so, or still works with a warning where it names a class.
MOVED = {
    "abstention": "dualvqa.trust.abstention",
    "calibration": "dualvqa.trust.calibration",
    "embeddings": "dualvqa.training.embeddings",
    "familiarity": "dualvqa.trust.familiarity",
    "image_cache": "dualvqa.training.image_cache",
    "record": "dualvqa.training.record",
    "reliability": "dualvqa.trust.reliability",
    "teacher": "dualvqa.training.teacher",
}
MOVED_NAMES = {
    "FrozenEmbeddings": "dualvqa.training.embeddings",
    "ImageCache": "dualvqa.training.image_cache",
    "LabelledLogits": "dualvqa.trust.calibration",
    "MOST_STATES": "dualvqa.trust.familiarity",
    "NoThresholdError": "dualvqa.trust.abstention",
    "TeacherLogits": "dualvqa.training.teacher",
    "answer_names": "dualvqa.trust.calibration",
    "answer_problems": "dualvqa.trust.calibration",
    "before_and_after": "dualvqa.trust.calibration",
    "cache_images": "dualvqa.training.image_cache",
    "choose_threshold": "dualvqa.trust.abstention",
    "embed_parts": "dualvqa.training.embeddings",
    "figures": "dualvqa.training.record",
    "find_teacher_logits": "dualvqa.training.teacher",
    "fingerprint": "dualvqa.training.embeddings",
    "fit_gaussian": "dualvqa.trust.familiarity",
    "fit_limits": "dualvqa.trust.familiarity",
    "reasons_against": "dualvqa.training.embeddings",
    "run_record": "dualvqa.training.record",
}


class MovedModules:
    """Says where a module is now that is imported from its old place (`sys.meta_path`)."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        package, _, module = name.rpartition(".")
        if package == __name__ and module in MOVED:
            raise ModuleNotFoundError(f"{name} has moved: import {MOVED[module]}", name=name)


sys.meta_path.append(MovedModules)


def __getattr__(name):
    for home, names in HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    if name in MOVED_NAMES:
        warnings.warn(f"{name} has moved: from {MOVED_NAMES[name]} import {name}", FutureWarning, stacklevel=2)
        return getattr(importlib.import_module(MOVED_NAMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

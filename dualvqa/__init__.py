"""Compact visual question answering for Hugging Face Transformers: what a person imports."""

import importlib
from pathlib import Path

from .siblings import check_siblings

__version__ = "0.1.0"

# Imported when they are asked for: `import dualvqa` takes no time, and who only answers questions loads no trainer.
HOMES = {
    "dualvqa.deployment.answerer": ["Answerer"],
    "dualvqa.deployment.ensemble": ["EnsembleModel", "EnsemblePipeline", "load_ensemble"],
    "dualvqa.deployment.onnx_export": ["export_onnx"],
    "dualvqa.deployment.onnx_pipeline": ["load_onnx_pipeline"],
    "dualvqa.deployment.optimize": ["optimize_for_inference"],
    "dualvqa.prediction.parts": ["merge_predictions"],
    "dualvqa.prediction.predict": ["predict"],
    "dualvqa.training.arguments": ["DualVQATrainingArguments"],
    "dualvqa.training.auxiliary": ["AuxiliaryTargets"],
    "dualvqa.training.checkpoints": ["CheckpointError", "find_checkpoint"],
    "dualvqa.training.contrastive": ["ContrastiveTrainer"],
    "dualvqa.training.divergence": ["DivergedError"],
    "dualvqa.training.interruption": ["Interrupted"],
    "dualvqa.training.building": ["build_model", "choose_preset", "load_model"],
    "dualvqa.trainer": ["DualVQATrainer"],
    "dualvqa.trust.abstention": ["NoThresholdError"],
    "dualvqa.trust.explanation": ["Explanation", "explain"],
    "dualvqa.trust.explanation_drawing": ["draw_explanation"],
    "modeling_dualvqa": [
        "DualVQAConfig",
        "DualVQAForQuestionAnswering",
        "DualVQAOutput",
        "DualVQAPipeline",
        "DualVQAPreTrainedModel",
        "TorchvisionEncoderConfig",
    ],
    "processing": [
        "AnswerMetrics",
        "AugmentationArguments",
        "BadExampleError",
        "DataArguments",
        "DualVQAImageProcessor",
        "DualVQAProcessor",
        "PairCollator",
        "VQAAccuracy",
        "VQACollator",
        "answers_of",
        "prepare_dataset",
        "prepare_datasets",
        "split_by_image",
        "split_dataset",
    ],
}
PLACES = {name: home for home, names in HOMES.items() for name in names}

__all__ = ["__version__", *PLACES]

check_siblings(Path(__file__).parent.parent)


def __getattr__(name):
    if name in PLACES:
        return getattr(importlib.import_module(PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *PLACES})

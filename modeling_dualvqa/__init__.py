"""The model side of DualVQA, which is saved beside the weights: configuration, model and pipeline."""

import importlib
import sys
import warnings

from transformers import AutoConfig, AutoModel, AutoModelForVisualQuestionAnswering

from .configuration_dualvqa import DualVQAConfig, TorchvisionEncoderConfig
from .modeling_dualvqa import DualVQAForQuestionAnswering, DualVQAOutput, DualVQAPreTrainedModel
from .pipeline_dualvqa import DualVQAPipeline

# Where this package is imported, saved folders load with its own code, and nobody is asked to trust theirs.
AutoConfig.register(DualVQAConfig.model_type, DualVQAConfig, exist_ok=True)
for auto_class in (AutoModel, AutoModelForVisualQuestionAnswering):
    auto_class.register(DualVQAConfig, DualVQAForQuestionAnswering, exist_ok=True)

__all__ = [
    "DualVQAConfig",
    "DualVQAForQuestionAnswering",
    "DualVQAOutput",
    "DualVQAPipeline",
    "DualVQAPreTrainedModel",
    "TorchvisionEncoderConfig",
]

# What was here before, by its new place: old names still come, with a warning, and old modules say where they are.
MOVED = {
    "dualvqa": [
        "CheckpointError",
        "ContrastiveTrainer",
        "DivergedError",
        "DualVQATrainer",
        "DualVQATrainingArguments",
        "Explanation",
        "explain",
        "find_checkpoint",
    ],
}
MOVED_MODULES = {
    "modeling_dualvqa.auxiliary": "dualvqa.training.auxiliary",
    "modeling_dualvqa.batch_norm": "dualvqa.training.batch_norm",
    "modeling_dualvqa.checkpoint_integrity": "dualvqa.training.checkpoint_integrity",
    "modeling_dualvqa.checkpoints": "dualvqa.training.checkpoints",
    "modeling_dualvqa.clock": "dualvqa.training.clock",
    "modeling_dualvqa.contrastive": "dualvqa.training.contrastive",
    "modeling_dualvqa.divergence": "dualvqa.training.divergence",
    "modeling_dualvqa.ensemble": "dualvqa.deployment.ensemble",
    "modeling_dualvqa.evaluating": "dualvqa.training.evaluating",
    "modeling_dualvqa.explanation": "dualvqa.trust.explanation",
    "modeling_dualvqa.explanation_drawing": "dualvqa.trust.explanation_drawing",
    "modeling_dualvqa.freezing": "dualvqa.training.freezing",
    "modeling_dualvqa.hub": "dualvqa.training.hub",
    "modeling_dualvqa.inference": "dualvqa.deployment.optimize",
    "modeling_dualvqa.loading": "dualvqa.training.loading",
    "modeling_dualvqa.objective": "dualvqa.training.objective",
    "modeling_dualvqa.output_folder": "dualvqa.training.output_folder",
    "modeling_dualvqa.resuming": "dualvqa.training.resuming",
    "modeling_dualvqa.sampling": "dualvqa.training.sampling",
    "modeling_dualvqa.saving": "dualvqa.training.saving",
    "modeling_dualvqa.task_weighting": "dualvqa.training.task_weighting",
    "modeling_dualvqa.trainer_dualvqa": "dualvqa.training.trainer",
    "modeling_dualvqa.training_arguments": "dualvqa.training.arguments",
}
PLACES = {name: home for home, names in MOVED.items() for name in names}


def __getattr__(name):
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{name} has moved: from {PLACES[name]} import {name}", FutureWarning, stacklevel=2)
    return getattr(importlib.import_module(PLACES[name]), name)


def find_spec(name, path=None, target=None):
    """Refuses the old place of a module: this package stands on `sys.meta_path`, where imports are looked up."""
    if name in MOVED_MODULES:
        raise ModuleNotFoundError(f"{name} has moved: import {MOVED_MODULES[name]}", name=name)


sys.meta_path.append(sys.modules[__name__])

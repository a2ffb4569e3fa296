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

# Where parts that were here are now: an old import says so, or still works with a warning where it names a class.
MOVED = {
    "auxiliary": "dualvqa.training.auxiliary",
    "batch_norm": "dualvqa.training.batch_norm",
    "checkpoint_integrity": "dualvqa.training.checkpoint_integrity",
    "checkpoints": "dualvqa.training.checkpoints",
    "clock": "dualvqa.training.clock",
    "contrastive": "dualvqa.training.contrastive",
    "divergence": "dualvqa.training.divergence",
    "ensemble": "dualvqa.deployment.ensemble",
    "evaluating": "dualvqa.training.evaluating",
    "explanation": "dualvqa.trust.explanation",
    "explanation_drawing": "dualvqa.trust.explanation_drawing",
    "freezing": "dualvqa.training.freezing",
    "hub": "dualvqa.training.hub",
    "inference": "dualvqa.deployment.optimize",
    "loading": "dualvqa.training.loading",
    "objective": "dualvqa.training.objective",
    "output_folder": "dualvqa.training.output_folder",
    "resuming": "dualvqa.training.resuming",
    "sampling": "dualvqa.training.sampling",
    "saving": "dualvqa.training.saving",
    "task_weighting": "dualvqa.training.task_weighting",
    "trainer_dualvqa": "dualvqa.training.trainer",
    "training_arguments": "dualvqa.training.arguments",
}
MOVED_NAMES = {
    "CheckpointError": "dualvqa",
    "ContrastiveTrainer": "dualvqa",
    "DivergedError": "dualvqa",
    "DualVQATrainer": "dualvqa",
    "DualVQATrainingArguments": "dualvqa",
    "Explanation": "dualvqa",
    "explain": "dualvqa",
    "find_checkpoint": "dualvqa",
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
    if name in MOVED_NAMES:
        warnings.warn(f"{name} has moved: from {MOVED_NAMES[name]} import {name}", FutureWarning, stacklevel=2)
        return getattr(importlib.import_module(MOVED_NAMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The model side of DualVQA: configuration, model, pipeline and trainer."""

import importlib

from transformers import AutoConfig, AutoModel, AutoModelForVisualQuestionAnswering

from .configuration_dualvqa import DualVQAConfig, TorchvisionEncoderConfig
from .modeling_dualvqa import DualVQAForQuestionAnswering, DualVQAOutput, DualVQAPreTrainedModel
from .pipeline_dualvqa import DualVQAPipeline

# Imported when they are asked for: who only answers questions doesn't wait for what training needs.
HOMES = {
    "checkpoints": ["CheckpointError", "find_checkpoint"],
    "contrastive": ["ContrastiveTrainer"],
    "divergence": ["DivergedError"],
    "explanation": ["Explanation", "explain"],
    "trainer_dualvqa": ["DualVQATrainer"],
    "training_arguments": ["DualVQATrainingArguments"],
}

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
    *(name for names in HOMES.values() for name in names),
]


def __getattr__(name):
    for home, names in HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

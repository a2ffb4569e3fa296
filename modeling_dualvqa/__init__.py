"""The model side of DualVQA: configuration, model, pipeline and trainer."""

from transformers import AutoConfig, AutoModel

from .configuration_dualvqa import DualVQAConfig, TorchvisionEncoderConfig
from .modeling_dualvqa import DualVQAForQuestionAnswering, DualVQAOutput, DualVQAPreTrainedModel
from .pipeline_dualvqa import DualVQAPipeline
from .trainer_dualvqa import DualVQATrainer, DualVQATrainingArguments

# Where this package is imported, saved folders load with its own code, and nobody is asked to trust theirs.
AutoConfig.register(DualVQAConfig.model_type, DualVQAConfig, exist_ok=True)
AutoModel.register(DualVQAConfig, DualVQAForQuestionAnswering, exist_ok=True)

__all__ = [
    "DualVQAConfig",
    "DualVQAForQuestionAnswering",
    "DualVQAOutput",
    "DualVQAPipeline",
    "DualVQAPreTrainedModel",
    "DualVQATrainer",
    "DualVQATrainingArguments",
    "TorchvisionEncoderConfig",
]

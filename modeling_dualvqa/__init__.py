"""The model side of DualVQA: configuration, model, pipeline and trainer."""

from .configuration_dualvqa import DualVQAConfig, TorchvisionEncoderConfig
from .modeling_dualvqa import DualVQAForQuestionAnswering, DualVQAOutput, DualVQAPreTrainedModel
from .pipeline_dualvqa import DualVQAPipeline
from .trainer_dualvqa import DualVQATrainer, DualVQATrainingArguments

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

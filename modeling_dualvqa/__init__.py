"""The model side of DualVQA: configuration, model, pipeline and trainer."""

from transformers import AutoConfig, AutoModel

from .checkpoints import CheckpointError, find_checkpoint
from .configuration_dualvqa import DualVQAConfig, TorchvisionEncoderConfig
from .modeling_dualvqa import DualVQAForQuestionAnswering, DualVQAOutput, DualVQAPreTrainedModel
from .pipeline_dualvqa import DualVQAPipeline
from .trainer_dualvqa import DualVQATrainer
from .training_arguments import DualVQATrainingArguments

# Where this package is imported, saved folders load with its own code, and nobody is asked to trust theirs.
AutoConfig.register(DualVQAConfig.model_type, DualVQAConfig, exist_ok=True)
AutoModel.register(DualVQAConfig, DualVQAForQuestionAnswering, exist_ok=True)

__all__ = [
    "CheckpointError",
    "DualVQAConfig",
    "DualVQAForQuestionAnswering",
    "DualVQAOutput",
    "DualVQAPipeline",
    "DualVQAPreTrainedModel",
    "DualVQATrainer",
    "DualVQATrainingArguments",
    "TorchvisionEncoderConfig",
    "find_checkpoint",
]

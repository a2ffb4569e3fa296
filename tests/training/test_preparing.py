"""What a trainer makes ready before it trains."""

import torch
from training_helpers import training_arguments

from dualvqa.trainer import DualVQATrainer
from modeling_dualvqa.memory_dualvqa import Memory
from modeling_dualvqa.memory_examples_dualvqa import Examples


def test_training_forgets_the_memory_of_the_weights_before(tiny_model, processor, rows, tmp_path, caplog):
    model, places = tiny_model(), torch.arange(4)
    examples = Examples(torch.randn(4, 16), torch.randn(4, 16), places, places % 2, torch.tensor([0, 0, 1, 1]))
    processor.memory_answers = ["mauve"]
    model.set_memory(Memory.of(model, examples, new_answers=1))
    arguments = training_arguments(tmp_path, max_steps=1, per_device_train_batch_size=8)
    DualVQATrainer(model=model, args=arguments, train_dataset=rows, processing_class=processor).train()
    assert model.memory is None and model.config.memory is None and processor.memory_answers == []
    assert "the memory of the model that training goes on from is dropped" in caplog.text

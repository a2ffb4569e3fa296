"""What a trainer makes ready before it trains."""

import pytest
import torch
from helpers import lines_of
from training_helpers import training_arguments

from dualvqa.trainer import DualVQATrainer
from modeling_dualvqa.memory_dualvqa import Memory
from modeling_dualvqa.memory_examples_dualvqa import Examples
from processing import AnswerRules


def test_training_forgets_the_memory_of_the_weights_before(tiny_model, processor, rows, tmp_path, caplog):
    model, places = tiny_model(), torch.arange(4)
    examples = Examples(torch.randn(4, 16), torch.randn(4, 24), places, places % 2, torch.tensor([0, 0, 1, 1]))
    processor.memory_answers = ["mauve"]
    model.set_memory(Memory.of(model, examples, new_answers=1))
    arguments = training_arguments(tmp_path, max_steps=1, per_device_train_batch_size=8)
    DualVQATrainer(model=model, args=arguments, train_dataset=rows, processing_class=processor).train()
    assert model.memory is None and model.config.memory is None and processor.memory_answers == []
    assert "the memory of the model that training goes on from is dropped" in caplog.text


def test_a_column_that_the_metric_cannot_read_is_refused_before_training(tiny_model, processor, image_folder, tmp_path):
    processor.answer_rules = AnswerRules(metric="vizwiz").saved()
    lines = lines_of(image_folder / "train.jsonl")
    rows = [{**row, "image": str(image_folder / row["image"])} for row in lines]
    bad = [{**row, "answerable": 1 if number else None} for number, row in enumerate(rows)]
    given = {"args": training_arguments(tmp_path), "train_dataset": rows, "processing_class": processor}
    with pytest.raises(ValueError, match="needs 0 or 1 in the column answerable .*a gap in 1 of .*row 0"):
        DualVQATrainer(model=tiny_model(), eval_dataset=bad, **given)

import pytest
import torch
from helpers import MOBILENET
from torch import nn
from training_helpers import training_arguments as arguments

from dualvqa.trainer import DualVQATrainer
from dualvqa.training.batch_norm import use_running_statistics


def test_single_values_are_normalised_by_the_running_statistics(caplog):
    norm = nn.BatchNorm2d(3).train()
    norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    norm.running_var.fill_(4.0)
    several, one = torch.randn(2, 3, 2, 2), torch.randn(1, 3, 1, 1)
    take_back = use_running_statistics(norm)
    for _ in range(2):
        before = norm.running_mean.clone()
        expected = (one - before.view(1, 3, 1, 1)) / (norm.running_var.view(1, 3, 1, 1) + norm.eps).sqrt()
        torch.testing.assert_close(norm(one), expected)
        assert torch.equal(norm.running_mean, before) and norm.training
        torch.testing.assert_close(norm(several), nn.BatchNorm2d(3).train()(several))
    assert caplog.text.count("a training batch has a single image") == 1
    take_back()
    with pytest.raises(ValueError, match="more than 1 value"):
        norm(one)


@pytest.mark.slow
def test_a_last_batch_with_one_image_trains(tiny_model, rows, tmp_path, caplog):
    args = arguments(tmp_path, per_device_train_batch_size=4, num_train_epochs=1)
    trainer = DualVQATrainer(tiny_model(vision_config=dict(MOBILENET)), args, train_dataset=rows[:5])
    assert trainer.train().global_step == 2
    assert "dataloader_drop_last=True" in caplog.text

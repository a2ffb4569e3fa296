"""Maps of a model that is known to look at the right place."""

import copy

import numpy as np
import pytest
import torch
from helpers import ANSWERS, TEXT
from scipy.stats import spearmanr

from dualvqa.trust.gradients import explain_by_gradients as explain
from modeling_dualvqa import DualVQAConfig, DualVQAForQuestionAnswering
from processing import DualVQAImageProcessor, DualVQAProcessor

QUESTION = "what color is it?"
RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}


def squares(count, chance):
    """Grey images with a square of 16 pixels in one of the answers' colours: a list of (image, answer, mask)."""
    made = []
    for _ in range(count):
        number, (top, left) = torch.randint(3, (), generator=chance), 8 * torch.randint(7, (2,), generator=chance)
        mask = torch.zeros(64, 64, dtype=torch.bool)
        mask[top : top + 16, left : left + 16] = True
        color = 255 * torch.eye(3, dtype=torch.uint8)[number]
        image = torch.where(mask, color[:, None, None], torch.tensor(128, dtype=torch.uint8))
        made.append((image, ANSWERS[number], mask.numpy()))
    return made


@pytest.fixture(scope="module")
def trained(tokenizer):
    """A small ResNet that sees 8 x 8 places, taught in a second or two to name a square's colour, and its processor."""
    torch.manual_seed(0)
    text = {**TEXT, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    fields = {"fusion_type": "product", "fusion_hidden_size": 16, "heads": ["open_ended"], "open_ended_head_sizes": []}
    fields |= {"fusion_dropout": 0.0, "fusion_num_attention_heads": 2, "num_answers": 3, "focal_gamma": 0.0}
    model = DualVQAForQuestionAnswering(DualVQAConfig(vision_config=RESNET, text_config=text, **fields)).train()
    processor = DualVQAProcessor(DualVQAImageProcessor(size={"height": 64, "width": 64}), tokenizer, ANSWERS)
    optimizer, chance = torch.optim.AdamW(model.parameters(), lr=5e-3), torch.Generator().manual_seed(0)
    for _ in range(60):
        images, answers, _ = zip(*squares(32, chance))
        inputs = processor(images=list(images), text=[QUESTION] * 32, return_tensors="pt")
        model(**inputs, open_ended_labels=torch.tensor([ANSWERS.index(answer) for answer in answers])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), processor


@pytest.mark.slow
def test_the_map_of_a_trained_model_lies_on_what_was_asked_about(trained):
    shares = []
    for image, answer, mask in squares(20, torch.Generator().manual_seed(1)):
        found = explain(trained, image, QUESTION)
        assert found.answer == answer and found.image_map.shape == (8, 8)
        pixels = np.kron(found.image_map, np.ones((8, 8)))
        assert mask.flat[pixels.argmax()]  # the pointing game
        shares.append(pixels[mask].sum() / pixels.sum())
    assert min(shares) > 2.5 * mask.mean()  # a map that is the same everywhere has once that


@pytest.mark.slow
def test_the_map_goes_when_weights_are_random(trained):
    """Adebayo et al. 2018; an edge detector's map would stay, with a rank correlation of 1."""
    model, processor = trained
    correlations = []
    for seed in range(3):
        torch.manual_seed(seed)
        fresh = DualVQAForQuestionAnswering(copy.deepcopy(model.config)).eval()
        for image, answer, _ in squares(10, torch.Generator().manual_seed(1)):
            maps = [explain((one, processor), image, QUESTION, answer).image_map for one in (model, fresh)]
            if maps[1].any():
                correlations.append(spearmanr(*map(np.ravel, maps)).statistic)
    assert len(correlations) >= 10 and abs(np.mean(correlations)) < 0.4

"""The memory's parameters: what makes held-out answers likely, and no question finds itself."""

import pytest
import torch

from dualvqa.trust.memory_fitting import FITTED, fit_parameters, objective
from modeling_dualvqa.memory_examples_dualvqa import Examples


@pytest.fixture
def make_memory(tiny_model):
    """A memory of 40 questions about 8 images whose answers depend on both, and questions that are near to them."""
    from modeling_dualvqa.memory_dualvqa import Memory

    def make(noise, right=True):
        model, draw = tiny_model(), torch.Generator().manual_seed(0)
        questions = torch.randn(5, 16, generator=draw)
        images = torch.randn(8, model.vision_encoder.hidden_size, generator=draw)
        number, image_index = torch.arange(40) // 8, torch.arange(40) % 8
        answers = (number + image_index) % 3
        examples = Examples(questions[number], images, image_index, answers, torch.ones(40, dtype=torch.long))
        asked = questions[number] + noise * torch.randn(40, 16, generator=draw)
        encoded = {
            "questions": asked,
            "images": images,
            "question_index": torch.arange(40),
            "image_index": image_index,
        }
        labels = answers if right else torch.randint(3, (40,), generator=draw)
        return Memory.of(model, examples), labels, encoded

    return make


def held(labels):
    """Heads that know the type and nothing else."""
    logits = {"binary": torch.zeros(40, 2), "open_ended": torch.zeros(40, 3)}
    logits["question_type"] = torch.tensor([[0.0, 4.0]]).expand(40, 2)
    none = torch.full((40,), -100)
    return logits, {"binary": none, "open_ended": labels, "question_type": torch.ones(40, dtype=torch.long)}


def share_with(memory, found, logits, encoded):
    from modeling_dualvqa.memory_dualvqa import mix

    memory.settings = {**memory.settings, **found}
    return mix(memory.settings, logits, memory.search(**encoded)).share.mean().item()


def test_where_the_memory_is_right_it_gets_the_say_and_where_it_is_not_it_loses_it(make_memory):
    shares = {}
    for right in (True, False):
        memory, labels, encoded = make_memory(0.3, right)
        logits, known = held(labels)
        before = memory.settings
        found = fit_parameters(memory, logits, known, encoded)
        assert set(found) == set(FITTED) and memory.settings is before
        shares[right] = share_with(memory, found, logits, encoded)
    assert shares[True] > 0.8 and shares[False] < 0.3


def test_the_fit_is_never_less_likely_than_the_usual_parameters(make_memory):
    memory, labels, encoded = make_memory(1.0)
    logits, known = held(labels)
    start = {name: float(memory.settings[name]) for name in FITTED}
    found = fit_parameters(memory, logits, known, encoded)

    def loss(parameters):
        settings, memory.settings = memory.settings, {**memory.settings, **parameters}
        neighbours = memory.search(**encoded)
        memory.settings = settings
        values = {name: torch.tensor(value, dtype=torch.float64) for name, value in parameters.items()}
        return objective(values, start, logits, known, neighbours, 0).item()

    assert loss(found) < loss(start)
    assert found == fit_parameters(memory, logits, known, encoded)

import copy
import logging
import sys

import pytest
import torch

from modeling_dualvqa import memory_index_dualvqa
from modeling_dualvqa.memory_dualvqa import Memory
from modeling_dualvqa.memory_examples_dualvqa import PARAMETERS, Examples

COUNT, IMAGES = 3000, 500


@pytest.fixture
def memory(tiny_model, monkeypatch):
    """Rewordings of 100 questions about 500 images, two of which are one image's vector."""
    torch.manual_seed(0)
    images = torch.randn(IMAGES, 24)
    images[7] = images[3]
    examples = Examples(
        questions=torch.randn(100, 16)[torch.arange(COUNT) % 100] + 0.3 * torch.randn(COUNT, 16),
        images=images,
        image_index=torch.randint(IMAGES, (COUNT,)),
        answers=torch.randint(2, (COUNT,)),
        types=torch.randint(2, (COUNT,)),
    )
    memory = Memory.of(tiny_model(), examples)
    memory.asked = examples.questions[:60] + 0.1 * torch.randn(60, 16), torch.cat([images[:5], torch.randn(5, 24)])
    monkeypatch.setattr(memory_index_dualvqa, "INDEXED", COUNT - 1)
    return memory


@pytest.fixture
def faiss():
    return pytest.importorskip("faiss", reason="needs faiss-cpu: pip install 'dualvqa[memory]'")


def exact(memory, monkeypatch, *asked):
    with monkeypatch.context() as patch:
        patch.setattr(memory_index_dualvqa, "INDEXED", COUNT)
        return memory.search(*asked)


def test_the_index_finds_nearly_all_that_the_whole_comparison_finds_with_the_same_similarities(
    memory, monkeypatch, faiss
):
    asked = *memory.asked, torch.arange(60) % 10
    expected, found = exact(memory, monkeypatch, *asked), memory.search(*asked)
    assert memory.index is not None and found.indices.shape == (60, PARAMETERS["neighbours"])
    same = found.indices[:, :, None] == expected.indices[:, None]  # (60, k, k)
    assert same.any(dim=1).float().mean() > 0.95 and same[:, 0, 0].float().mean() > 0.95
    both = same.any(dim=2)
    for name in ("question", "image", "same", "answers", "types"):
        one, other = getattr(found, name)[both].float(), getattr(expected, name)[same.any(dim=1)].float()
        torch.testing.assert_close(one, other)


def test_the_index_is_asked_outside_of_no_grad_too(memory, faiss):
    questions, images = memory.asked
    asked = questions.clone().requires_grad_(), images, torch.arange(60) % 10
    found = memory.search(*asked)
    found.question.sum().backward()
    assert memory.index is not None and asked[0].grad.abs().sum() > 0
    assert torch.equal(found.indices, memory.search(*(part.detach() for part in asked)).indices)


def test_all_examples_about_the_same_image_are_compared(memory, faiss):
    memory.settings |= {"same_image_weight": 9.0, "neighbours": 60}  # so that they come first
    found = memory.search(torch.randn(10, 16), memory.asked[1])
    for row, images in enumerate([[0], [1], [2], [3, 7], [4]]):
        about = torch.isin(memory.image_index, torch.tensor(images)).nonzero()[:, 0]
        assert 0 < len(about) < 60 and set(about.tolist()) <= set(found.indices[row].tolist())
    assert not found.same[5:].any()


def test_hidden_examples_are_not_found_and_several_questions_about_an_image_are_answered_each(memory, faiss):
    questions, images = memory.asked
    memory.hidden[: COUNT - 10] = True
    found = memory.search(questions, images, torch.tensor([1, 1, 4]), torch.tensor([5, 6, 5]))
    assert found.indices.shape == (3, PARAMETERS["neighbours"])
    assert (found.indices[found.types >= 0] >= COUNT - 10).all() and (found.types == -1).any()
    alone = memory.search(questions[5:6], images[4:5])
    torch.testing.assert_close(alone.question[0], found.question[2])


def test_a_copy_and_other_keys_have_an_index_of_their_own(memory, faiss):
    memory.search(*memory.asked[:1], memory.asked[1], torch.arange(60) % 10)
    assert memory.index is not None and copy.deepcopy(memory).index is None
    memory.load_state_dict(memory.state_dict())
    assert memory.index is None


def test_without_faiss_all_are_compared_and_a_warning_says_what_that_takes(memory, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "faiss", None)
    memory_index_dualvqa.logger.warning_once.cache_clear()
    asked = *memory.asked, torch.arange(60) % 10
    with caplog.at_level(logging.WARNING):
        found = memory.search(*asked)
    assert "compared with all 3,000 examples" in caplog.text and "pip install 'dualvqa[memory]'" in caplog.text
    assert memory.index is None
    assert (found.indices == exact(memory, monkeypatch, *asked).indices).all()


def test_examples_that_are_left_out_and_small_memories_are_compared_with_all(memory, monkeypatch, faiss):
    exclude = torch.zeros(60, COUNT, dtype=torch.bool)
    memory.search(*memory.asked, torch.arange(60) % 10, exclude=exclude)
    exact(memory, monkeypatch, *memory.asked, torch.arange(60) % 10)
    assert memory.index is None

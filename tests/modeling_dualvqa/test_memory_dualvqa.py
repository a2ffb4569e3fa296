"""The memory of answered questions: its search, its mixture, and how it is saved."""

import pytest
import torch
from helpers import FUSIONS, LOGITS, assert_same_logits, contents, load
from safetensors.torch import load_file

from modeling_dualvqa.memory_dualvqa import TAUGHT_SHARE, Memory, Neighbours, mix
from modeling_dualvqa.memory_examples_dualvqa import (
    PARAMETERS,
    Examples,
    check_size,
    image_vectors,
    question_vectors,
    weights_digest,
)

WIDE = {"text_width": 16, "vision_width": 576, "question_key_width": 16, "image_key_width": 576}


def random_examples(count=40, images=7):
    """Examples about images at random, answered by 5 words: 3 that the head knows and 2 that it doesn't."""
    types = torch.arange(count) % 2
    return Examples(
        questions=torch.randn(count, 16),
        images=torch.randn(images, 24),
        image_index=torch.randint(images, (count,)),
        answers=torch.where(types == 0, torch.randint(2, (count,)), torch.randint(5, (count,))),
        types=types,
    )


@pytest.fixture
def model(tiny_model):
    model = tiny_model()
    model.set_memory(Memory.of(model, random_examples(), new_answers=2))
    return model


def by_hand(memory, question, image, parameters):
    """The similarities of one question to all examples, one after the other."""
    found = []

    def cosine(name, vector, key):  # whose length is 1 up to half precision
        vector, basis = vector - getattr(memory, f"{name}_mean"), getattr(memory, f"{name}_basis")
        vector = vector if basis is None else basis.T @ vector
        return (vector / vector.norm()).dot(key)

    for key, place in zip(memory.question_keys, memory.image_index.tolist()):
        of_image = cosine("image", image, memory.image_keys[place])
        same = parameters["same_image_weight"] * (of_image >= 0.99)
        found.append(cosine("question", question, key) + parameters["image_weight"] * of_image + same)
    return torch.stack(found)


@pytest.mark.parametrize("scores_at_a_time, many", [(2**25, 20_000), (1, 20_000), (2**25, 10)])
def test_the_search_finds_what_brute_force_finds(tiny_model, monkeypatch, scores_at_a_time, many):
    monkeypatch.setattr("modeling_dualvqa.memory_dualvqa.SCORES", scores_at_a_time)
    monkeypatch.setattr("modeling_dualvqa.memory_examples_dualvqa.MANY", many)
    monkeypatch.setattr(
        "modeling_dualvqa.memory_examples_dualvqa.NARROW", {"question_key_width": 8, "image_key_width": 5}
    )
    examples = random_examples()
    memory = Memory.of(tiny_model(), examples, new_answers=2)
    assert memory.question_keys.shape[1] == (16 if many == 20_000 else 8)
    questions, images = torch.randn(3, 16), torch.randn(2, 24)
    images[1] = examples.images[4]
    image_index, question_index = torch.tensor([0, 1, 1, 0]), torch.tensor([2, 0, 1, 0])
    found = memory.search(questions, images, image_index, question_index)
    mixture = mix(PARAMETERS, {"binary": torch.zeros(4, 2)}, found)
    for row, (image, question) in enumerate(zip(image_index, question_index)):
        expected, order = by_hand(memory, questions[question], images[image], PARAMETERS).sort(descending=True)
        assert found.indices[row].tolist() == order[:30].tolist()
        torch.testing.assert_close(mixture.similarities[row], expected[:30])
        torch.testing.assert_close(mixture.weights[row], (expected[:30] / 0.1).softmax(dim=0))
    assert found.same[1].sum() == (memory.image_index[found.indices[1]] == 4).sum() > 0


def test_excluded_and_hidden_examples_are_not_found(model):
    exclude = torch.zeros(3, 40, dtype=torch.bool)
    exclude[0, 11:], exclude[1, :] = True, True
    model.memory.hidden[:5] = True
    found = model.memory.search(torch.randn(3, 16), torch.randn(3, 24), exclude=exclude)
    assert sorted(found.indices[0][found.types[0] >= 0].tolist()) == [5, 6, 7, 8, 9, 10]
    assert (found.types[1] == -1).all() and not set(found.indices[2].tolist()) & set(range(5))
    head = torch.randn(3, 2)
    alone = mix(PARAMETERS, {"binary": head}, found)
    torch.testing.assert_close(alone.log_probabilities["binary"][1], head[1].log_softmax(dim=0))
    assert alone.share[1] == 0 and alone.weights[1].sum() == 0 and alone.share[2] > 0


def neighbours(question=(0.9, 0.6, 0.5), answers=(4, 1, 0), types=(1, 0, 1), **fields):
    """Three neighbours of one question: one with a new word, a yes, and one with the first answer."""
    count = len(question)
    values = {"image": [0.2] * count, "same": [0.0] * count, "taught": [0.0] * count, **fields}
    values = {name: torch.tensor([value]) for name, value in values.items()}
    places = [torch.arange(count)[None], torch.tensor([answers]), torch.tensor([types])]
    return Neighbours(
        places[0], torch.tensor([question]), values["image"], values["same"], *places[1:], values["taught"]
    )


def heads():
    return {"binary": torch.randn(1, 2), "open_ended": torch.randn(1, 3), "question_type": torch.randn(1, 2)}


def test_the_mixture_is_that_of_the_formula_and_sums_to_one():
    logits, found = heads(), neighbours()
    mixture = mix(PARAMETERS, logits, found, new_answers=2)
    probabilities = {name: scores[0].exp() for name, scores in mixture.log_probabilities.items()}
    for name, found_probabilities in probabilities.items():
        assert found_probabilities.sum() == pytest.approx(1, abs=1e-6), name
    similarity = torch.tensor([0.96, 0.66, 0.56])  # + 0.3 * 0.2
    first, second, third = (similarity / 0.1).softmax(dim=0)
    share = torch.sigmoid(-4.7 + 3.5 * similarity)
    open_ended = (1 - share[0]) * torch.cat([logits["open_ended"][0].softmax(dim=0), torch.zeros(2)])
    open_ended += share[0] * torch.tensor([third, 0, 0, 0, first]) / (first + third)
    torch.testing.assert_close(probabilities["open_ended"], open_ended)
    binary = (1 - share[1]) * logits["binary"][0].softmax(dim=0) + share[1] * torch.tensor([0.0, 1.0])
    torch.testing.assert_close(probabilities["binary"], binary)
    router = (1 - share[0]) * logits["question_type"][0].softmax(dim=0)
    router += share[0] * torch.stack([second, first + third])
    torch.testing.assert_close(probabilities["question_type"], router)


def test_a_head_without_a_neighbour_of_its_type_stands_alone():
    logits = heads()
    mixture = mix(PARAMETERS, logits, neighbours(types=(1, 1, 1), answers=(0, 1, 2)))
    torch.testing.assert_close(mixture.log_probabilities["binary"], logits["binary"].log_softmax(dim=-1))
    assert (mixture.log_probabilities["open_ended"] != logits["open_ended"].log_softmax(dim=-1)).all()


def test_what_was_taught_for_exactly_this_question_has_nearly_all_of_the_say():
    logits = {"binary": torch.tensor([[9.0, 0.0]]), "open_ended": torch.randn(1, 3), "question_type": torch.randn(1, 2)}
    parameters = {**PARAMETERS, "share_bias": -99.0}
    mixture = mix(parameters, logits, neighbours(taught=[0.0, 1.0, 0.0]), new_answers=2)
    assert mixture.log_probabilities["binary"].exp()[0, 1] >= TAUGHT_SHARE
    assert mixture.log_probabilities["question_type"].exp()[0, 0] >= TAUGHT_SHARE
    assert mixture.weights.tolist() == [[0, 1, 0]]


def test_a_rewording_about_the_same_image_wins_and_a_vague_resemblance_does_not():
    sure = {"open_ended": torch.tensor([[2.0, 0.0, 0.0]])}  # 0.79 for the first
    rewording = neighbours(question=(0.85,), answers=(1,), types=(1,), image=[1.0], same=[1.0])
    vague = neighbours(question=(0.6,), answers=(1,), types=(1,))
    assert mix(PARAMETERS, sure, rewording).log_probabilities["open_ended"].argmax() == 1
    assert mix(PARAMETERS, sure, vague).log_probabilities["open_ended"].argmax() == 0


def test_the_mixture_can_be_differentiated_in_each_parameter():
    names = [name for name in PARAMETERS if name != "neighbours"]
    values = torch.tensor([PARAMETERS[name] for name in names], dtype=torch.float64, requires_grad=True)
    logits = {name: scores.double() for name, scores in heads().items()}
    fields = [field.double() if field.is_floating_point() else field for field in neighbours(same=[0.0, 1.0, 1.0])]
    fields[1][0, 0] = -100.0  # no such example
    fields[5][0, 0] = -1

    def likelihood(values):
        mixture = mix(dict(zip(names, values)), logits, Neighbours(*fields), new_answers=2)
        return torch.stack([scores[0, 0] for scores in mixture.log_probabilities.values()])

    assert torch.autograd.gradcheck(likelihood, values)
    likelihood(values).sum().backward()
    assert values.grad.isfinite().all() and values.grad.abs().min() > 0


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_model_answers_with_it_in_evaluation_alone(tiny_model, batch, labels, fusion):
    model = tiny_model(fusion_type=fusion)
    before, states = model(**batch, **labels), model.encode_questions(batch["input_ids"], batch["attention_mask"])
    images = model.encode_images(batch["pixel_values"])
    answers, types = torch.tensor([3, 1, 0, 4]), torch.tensor([1, 0, 0, 1])
    examples = Examples(
        question_vectors(states, batch["attention_mask"]), image_vectors(images), batch["image_index"], answers, types
    )
    model.set_memory(Memory.of(model, examples, new_answers=2, share_bias=9.0, temperature=0.01))
    after = model(**batch, **labels)
    assert after.memory_indices[:, 0].tolist() == [0, 1, 2, 3] and after.memory_indices.shape == (4, 4)
    assert after.memory_share.min() > 0.9 and after.memory_similarities[:, 0].min() > 1.79
    torch.testing.assert_close(after.memory_weights.sum(dim=1), torch.ones(4))
    assert after.open_ended_logits.shape == (4, 5)
    assert after.open_ended_logits.argmax(dim=1)[[0, 3]].tolist() == [3, 4]
    assert after.binary_logits.argmax(dim=1)[[1, 2]].tolist() == [1, 0]
    assert after.question_type_logits.argmax(dim=1).tolist() == types.tolist()
    assert after.loss == before.loss
    for name in LOGITS:  # what says how familiar a question is to the heads
        torch.testing.assert_close(after[name].logsumexp(dim=1), before[name].logsumexp(dim=1))
    model.forget_memory()
    assert_same_logits(model(**batch), before)


def test_the_model_trains_without_it(model, batch):
    outputs = model.train()(**batch)
    assert outputs.memory_share is None and outputs.open_ended_logits.shape == (4, 3)


def test_the_saved_folder_answers_the_same_and_keeps_keys_in_half_precision(model, batch, tmp_path):
    before = model(**batch)
    model.save_pretrained(tmp_path / "one")
    weights = load_file(tmp_path / "one" / "model.safetensors")
    assert weights["memory.question_keys"].dtype == weights["memory.image_mean"].dtype == torch.float16
    loaded = load(tmp_path / "one")
    assert loaded.config.memory == model.config.memory and loaded.memory.question_keys.dtype == torch.float32
    assert_same_logits(loaded(**batch), before)
    loaded.save_pretrained(tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_folder_without_one_says_nothing_of_it(tiny_model, tmp_path, model):
    model.forget_memory()
    model.save_pretrained(tmp_path)
    assert "memory" not in (tmp_path / "config.json").read_text()
    assert not [name for name in load_file(tmp_path / "model.safetensors") if name.startswith("memory")]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_its_keys_stay_as_they_are_in_a_model_of_half_precision(model, tmp_path, dtype):
    keys = model.memory.question_keys.clone()
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path, dtype=dtype)
    assert loaded.dtype == dtype and loaded.memory.question_keys.dtype == torch.float32
    torch.testing.assert_close(loaded.memory.question_keys, keys, rtol=0, atol=0)
    torch.testing.assert_close(model.to(dtype).memory.question_keys, keys, rtol=0, atol=0)


def test_a_float16_copy_keeps_its_memory_in_every_precision(model, tmp_path):
    model.half().save_pretrained(tmp_path / "half")
    for dtype in (torch.float16, torch.float32, torch.bfloat16):
        loaded = load(tmp_path / "half", dtype=dtype)
        assert len(loaded.memory) == 40
        loaded.save_pretrained(tmp_path / "again")
        assert len(load(tmp_path / "again", dtype=torch.float32).memory) == 40


def test_of_very_many_examples_keys_are_principal_components_and_are_saved_with_them(
    tiny_model, batch, tmp_path, monkeypatch
):
    monkeypatch.setattr("modeling_dualvqa.memory_examples_dualvqa.MANY", 10)
    monkeypatch.setattr(
        "modeling_dualvqa.memory_examples_dualvqa.NARROW", {"question_key_width": 4, "image_key_width": 3}
    )
    model, examples = tiny_model(), random_examples()
    examples.questions, examples.images = (
        torch.randn(40, 4) @ torch.randn(4, 16),
        torch.randn(7, 3) @ torch.randn(3, 24),
    )
    narrow = Memory.of(model, examples, new_answers=2)
    monkeypatch.setattr("modeling_dualvqa.memory_examples_dualvqa.MANY", 100)
    whole = Memory.of(model, examples, new_answers=2)
    one, other = (memory.search(examples.questions[:5], examples.images[:5]) for memory in (narrow, whole))
    torch.testing.assert_close(one.question, other.question, rtol=0, atol=3e-3)  # vectors of so few dimensions
    torch.testing.assert_close(one.image, other.image, rtol=0, atol=3e-3)
    model.set_memory(narrow)
    model.save_pretrained(tmp_path)
    assert_same_logits(load(tmp_path)(**batch), model(**batch))


def test_the_digest_knows_weights_in_either_precision_and_tells_others(tiny_model):
    model = tiny_model()
    before = weights_digest(model)
    assert weights_digest(model.bfloat16()) == before
    assert weights_digest(tiny_model()) != before
    assert weights_digest(model.half()) is None


def test_a_memory_of_other_weights_or_widths_is_refused(tiny_model, tmp_path, model):
    with pytest.raises(ValueError, match=r"of other weights \(digest .*Make it anew from the training questions"):
        tiny_model().set_memory(model.memory)
    narrow = random_examples()
    narrow.questions = narrow.questions[:, :8]
    with pytest.raises(ValueError, match="its keys have text_width 8, this model's vectors 16"):
        Memory.of(model, narrow, new_answers=2)
    model.save_pretrained(tmp_path)
    text, digest = (tmp_path / "config.json").read_text(), model.config.memory["weights"]
    (tmp_path / "config.json").write_text(text.replace(digest, "0123456789abcdef"))
    with pytest.raises(ValueError, match=r"saved with a memory that isn't the model's: the memory is of other weights"):
        load(tmp_path)


def test_weights_that_were_changed_are_saved_without_it(model, tmp_path, caplog):
    model.binary_head[0].weight.data.add_(1)
    model.save_pretrained(tmp_path)
    assert load(tmp_path).memory is None and "the memory is not saved" in caplog.text


def test_what_is_no_memory_is_refused(model):
    for change, message in (
        ({"answers": torch.full((40,), -100)}, "40 of 40 examples have no answer, first number 0"),
        ({"answers": torch.full((40,), 5)}, "an example's answer is outside of the 5 that model and memory know"),
        ({"image_index": torch.arange(40)}, "image_index is outside of the 7 images"),
        ({"types": torch.zeros(39)}, r"for each of 40 questions, found \[40, 40, 39\]"),
        ({"questions": torch.zeros(0, 16)}, "for each of 0 questions"),
    ):
        with pytest.raises(ValueError, match=message):
            Memory.of(model, Examples(**{**vars(random_examples()), **change}), new_answers=2)
    for name, value, message in (
        ("temperature", 0, "temperature must be a finite number above 0, found 0"),
        ("neighbours", 2.5, "neighbours must be a whole number above 0, found 2.5"),
        ("share_bias", float("nan"), "share_bias must be a finite number, found nan"),
        ("shares", 1, "a memory has no 'shares'"),
    ):
        with pytest.raises(ValueError, match=message):
            Memory.of(model, random_examples(), 2, **{name: value})


def test_a_model_with_one_head_has_examples_of_its_type_alone(tiny_model, batch):
    model = tiny_model(heads=["open_ended"])
    with pytest.raises(ValueError, match="examples of type binary, and the model has only open_ended"):
        Memory.of(model, random_examples(), 2)
    examples = random_examples()
    examples.types[:] = 1
    model.set_memory(Memory.of(model, examples, 2))
    outputs = model(**batch)
    assert outputs.open_ended_logits.shape == (4, 5) and outputs.question_type_logits is None


def test_more_than_fits_is_refused_with_numbers_before_it_is_allocated(monkeypatch):
    sizes = {"examples": 10**7, "images": 5, "answers": 3, "new_answers": 0, **WIDE}
    monkeypatch.setattr("modeling_dualvqa.memory_examples_dualvqa.free_bytes", lambda: 600_000_000)
    with pytest.raises(
        ValueError, match=r"10,000,000 examples about 5 images takes 900,011,520 bytes; .*3,333,290 rows"
    ):
        check_size(sizes)
    check_size({**sizes, "examples": 10**6})


def test_a_new_vocabulary_forgets_it(model):
    model.reset_open_ended_head(4)
    assert model.memory is None and model.config.memory is None

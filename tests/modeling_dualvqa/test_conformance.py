"""What transformers' ModelTesterMixin asks of its models, asked of ours with a tower of every family.

`test_model_standards` has what doesn't depend on the towers.
"""

import copy

import pytest
import torch
from towers import TEXT, VISION, text_config, vision_config

from modeling_dualvqa import DualVQAConfig, DualVQAForQuestionAnswering

LOGITS = ("binary_logits", "open_ended_logits", "question_type_logits")
FAMILIES = [("vision", name) for name in VISION] + [("text", name) for name in TEXT if name != "distilbert"]
QUICK = ("vit", "swin", "resnet", "timm_wrapper", "bert", "albert")  # the quick part has one of each kind
TOWERS = [pytest.param(tower, id=tower[1], marks=[] if tower[1] in QUICK else [pytest.mark.slow]) for tower in FAMILIES]
# Pre-training alone masks patches; the fusion reads the mean of a ConvNeXt's grid, not what its pooler makes of it.
UNUSED = ("mask_token", "vision_encoder.model.layernorm.weight", "vision_encoder.model.layernorm.bias")


@pytest.fixture(scope="module", params=TOWERS)
def built(request, tokenizer):
    """A model and its batch, made once for all that is asked of it; no test changes them but in the copy `model`."""
    torch.manual_seed(0)
    kind, family = request.param
    config = DualVQAConfig(
        vision_config=vision_config(family if kind == "vision" else "resnet"),
        text_config=text_config(family if kind == "text" else "distilbert", len(tokenizer)),
        num_answers=3,
        fusion_type="cross_attention",
        fusion_hidden_size=16,
        fusion_num_attention_heads=2,
    )
    encoded = tokenizer(["what color is it?", "is it red?"], padding=True, return_tensors="pt")
    batch = {name: encoded[name] for name in ("input_ids", "attention_mask")}
    batch["pixel_values"] = torch.randn(2, 3, 32, 32)
    return DualVQAForQuestionAnswering(config).eval(), batch


@pytest.fixture
def model(built):
    return copy.deepcopy(built[0])


@pytest.fixture
def unchanged(built):
    return built[0]


@pytest.fixture
def batch(built):
    return dict(built[1])


LABELS = {
    "binary_labels": torch.tensor([-100, 1]),
    "open_ended_labels": torch.tensor([2, -100]),
    "question_type_labels": torch.tensor([1, 0]),
}


def assert_same_logits(one, other, **tolerance):
    for name in LOGITS:
        torch.testing.assert_close(one[name], other[name].to(one[name].dtype), **tolerance)


@pytest.mark.slow
def test_a_new_model_is_finite_and_one_that_loads_nothing_is_as_new(unchanged, batch):
    assert all(unchanged(**batch)[name].isfinite().all() for name in LOGITS)
    if unchanged.config.vision_config.model_type == "timm_wrapper":
        return  # transformers doesn't know timm's start values, and a folder that lacks some of them is refused
    loaded = DualVQAForQuestionAnswering.from_pretrained(None, config=copy.deepcopy(unchanged.config), state_dict={})
    unsaved = dict(unchanged.named_buffers()).keys() - unchanged.state_dict().keys()
    for name, tensor in [*unchanged.named_parameters(), *unchanged.named_buffers()]:
        found = loaded.get_parameter_or_buffer(name)
        assert found.shape == tensor.shape and tensor.isfinite().all() and found.isfinite().all(), name
        if name in unsaved or (tensor.is_floating_point() and tensor.float().std() == 0):
            assert torch.equal(found, tensor), name
    assert all(loaded(**batch)[name].isfinite().all() for name in LOGITS)


@pytest.mark.slow
def test_saved_and_loaded_it_answers_the_same_and_so_each_time(unchanged, batch, tmp_path):
    unchanged.save_pretrained(tmp_path)
    again = DualVQAForQuestionAnswering.from_pretrained(tmp_path)
    output = unchanged(**batch)
    assert_same_logits(output, unchanged(**batch), rtol=0, atol=0)
    assert_same_logits(output, again(**batch), rtol=1e-5, atol=1e-6)
    for name, tensor in unchanged.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    saved = DualVQAConfig.from_pretrained(tmp_path).to_dict()
    assert saved == DualVQAConfig.from_dict(saved).to_dict()
    assert {**saved, "_name_or_path": ""} == {**again.config.to_dict(), "_name_or_path": ""}


def test_questions_are_answered_alike_one_by_one_and_together(unchanged, batch):
    together = unchanged(**batch)
    for row, length in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
        one = {name: tensor[row : row + 1] for name, tensor in batch.items()}
        one |= {name: one[name][:, :length] for name in ("input_ids", "attention_mask")}
        for name in LOGITS:
            torch.testing.assert_close(unchanged(**one)[name][0], together[name][row], atol=1e-5, rtol=1e-4)


def test_eager_equals_sdpa_and_gives_attention_weights_that_sum_to_one(model, batch):
    before = model(**batch)
    model.set_attn_implementation("eager")
    output = model(**batch, output_attentions=True, output_hidden_states=True)
    assert_same_logits(before, output, rtol=1e-4, atol=1e-5)
    for name in ("image_attentions", "text_attentions", "fusion_attentions"):
        for weights in getattr(output, name) or ():
            assert weights.ndim == 4 and weights.shape[0] in (2, 8), name  # Swin: windows
            torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    tokens = batch["input_ids"].shape[1]
    assert {tuple(state.shape[:2]) for state in output.text_hidden_states} == {(2, tokens)}
    assert all(len(state) == 2 for state in output.image_hidden_states) and len(output.image_hidden_states) > 1


def test_a_tuple_holds_what_the_output_holds(unchanged, batch):
    options = {**batch, **LABELS, "output_hidden_states": True}
    output, as_tuple = unchanged(**options), unchanged(**options, return_dict=False)
    assert len(output.to_tuple()) == len(as_tuple)
    for one, other in zip(output.to_tuple(), as_tuple):
        torch.testing.assert_close(one, other)


def test_every_parameter_and_hidden_state_gets_a_gradient(model, batch):
    output = model.train()(**batch, **LABELS, output_hidden_states=True)
    states = [output.text_hidden_states[0], output.fusion_hidden_states[0]]
    if not hasattr(model.vision_encoder, "model") or not hasattr(model.vision_encoder.model, "timm_model"):
        states.append(output.image_hidden_states[0])  # timm's are copies
    for state in states:
        state.retain_grad()
    output.loss.backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert {name for name in without if not name.endswith(UNUSED)} == set()
    assert all(state.grad is not None for state in states)


def test_activation_checkpointing_changes_no_gradient(unchanged, batch):
    found = []
    for saving in (False, True):
        other = copy.deepcopy(unchanged)
        if saving:
            other.gradient_checkpointing_enable()
        torch.manual_seed(0)  # dropout
        other.train()(**batch, **LABELS).loss.backward()
        found.append({name: p.grad for name, p in other.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_answers_nearly_the_same(model, batch, dtype):
    expected = model(**batch)
    output = model.to(dtype)(**batch)
    assert output.open_ended_logits.dtype == dtype
    assert_same_logits(expected, output, atol=0.1, rtol=0.1)


def test_the_smallest_step_of_training_lowers_the_loss(model, batch):
    def loss():
        return model(**batch, **LABELS).loss  # without dropout

    before = loss()
    before.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad
    assert loss() < before

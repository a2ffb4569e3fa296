import pytest
import torch
from torch import nn

from modeling_dualvqa import DualVQAConfig
from modeling_dualvqa.feed_forward_dualvqa import FeedForward, MixtureOfExperts, load_balancing_loss
from modeling_dualvqa.fusion_dualvqa import FUSIONS, build_fusion
from modeling_dualvqa.modeling_dualvqa import AnswerHead

D = 8


def config(**fields):
    defaults = {"fusion_hidden_size": D, "fusion_num_attention_heads": 2, "fusion_dropout": 0.0, "num_answers": 3}
    config = DualVQAConfig(**{**defaults, **fields})
    config._attn_implementation = "eager"
    return config


def fusion(**fields):
    torch.manual_seed(0)
    return build_fusion(config(**fields)).eval()


@pytest.fixture
def states():
    torch.manual_seed(1)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]])
    return torch.randn(3, 5, D), torch.randn(3, 4, D), mask


def attention_by_hand(module, queries, context, mask=None):
    """One head at a time."""
    q, k, v = module.query(queries), module.key(context), module.value(context)
    heads = []
    for start in range(0, D, module.head_dim):
        part = slice(start, start + module.head_dim)
        scores = torch.einsum("bqd,bkd->bqk", q[..., part], k[..., part]) / module.head_dim**0.5
        if mask is not None:
            scores = scores.masked_fill(mask[:, None] == 0, -torch.inf)
        heads.append(scores.softmax(-1) @ v[..., part])
    return module.output(torch.cat(heads, -1))


def block_by_hand(block, queries, context, mask=None):
    def normed(norm, x):
        scaled = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
        return scaled * norm.weight + norm.bias

    x = normed(block.attention_residual.norm, queries + attention_by_hand(block.attention, queries, context, mask))
    first, _, last = block.feed_forward
    return normed(block.feed_forward_residual.norm, x + last(nn.functional.gelu(first(x))))


@pytest.mark.parametrize("pooling", ["mean", "product"])
@pytest.mark.parametrize("third", [False, True])
def test_attention_is_that_of_the_design_and_its_options(states, pooling, third):
    module = fusion(fusion_type="attention", fusion_pooling=pooling, fusion_product_vector=third)
    image, text, _ = states
    v, t = image[:, 0], text[:, 0]
    vectors = torch.stack([v, t, v * t] if third else [v, t], dim=1)
    after = block_by_hand(module.blocks[0], vectors, vectors)
    expected = after.prod(1) if pooling == "product" else sum(after.unbind(1)) / after.shape[1]
    torch.testing.assert_close(module(image, text).state, expected)


def test_product_pooling_adds_no_parameter():
    plain, product = fusion(fusion_type="attention"), fusion(fusion_type="attention", fusion_pooling="product")
    assert {n: p.shape for n, p in plain.named_parameters()} == {n: p.shape for n, p in product.named_parameters()}


@pytest.mark.parametrize("back", [False, True])
def test_cross_attention_binds_tokens_and_grid(states, back):
    module = fusion(fusion_type="cross_attention", fusion_num_layers=2, fusion_bidirectional=back)
    image, text, mask = states
    t, v = module.text_norm(text), module.vision_norm(image) if back else image
    for number, block in enumerate(module.blocks):
        later = block_by_hand(block, t, v)
        v = block_by_hand(module.vision_blocks[number], v, t, mask) if back else v
        t = later
    means = torch.stack([row[: int(m.sum())].mean(0) for row, m in zip(t, mask)])
    found = module(image, text, mask)
    torch.testing.assert_close(found.state, means * v[:, 0])
    assert [tuple(a.shape) for a in found.attentions] == [(3, 2, 4, 5)] * 2 + [(3, 2, 5, 4)] * (2 * back)
    if back:  # no place of an image looks at padding
        assert found.attentions[2][2, :, :, 2:].abs().max() == 0


@pytest.mark.parametrize("back", [False, True])
def test_padding_changes_nothing(states, back):
    module = fusion(fusion_type="cross_attention", fusion_bidirectional=back)
    image, text, mask = states
    garbage = torch.where(mask[..., None] == 1, text, 1e3)
    torch.testing.assert_close(module(image, garbage, mask).state, module(image, text, mask).state)


def test_concat_is_one_layer_on_both_vectors(states):
    module = fusion(fusion_type="concat")
    image, text, _ = states
    weight, bias = module.mix[0].weight, module.mix[0].bias
    expected = nn.functional.gelu(image[:, 0] @ weight[:, :D].T + text[:, 0] @ weight[:, D:].T + bias)
    torch.testing.assert_close(module(image, text).state, expected)


def test_product_multiplies(states):
    image, text, _ = states
    torch.testing.assert_close(fusion(fusion_type="product")(image, text).state, image[:, 0] * text[:, 0])


def test_gates_choose_between_image_and_question(states):
    module = fusion(fusion_type="gated")
    image, text, _ = states
    found = module(image, text)
    v, t = (torch.tanh(layer(x[:, 0])) for layer, x in ((module.vision, image), (module.text, text)))
    torch.testing.assert_close(found.state, found.gates * v + (1 - found.gates) * t)
    module.gate.bias.data.fill_(1e4)
    torch.testing.assert_close(module(image, text).state, v)
    module.gate.bias.data.fill_(-1e4)
    torch.testing.assert_close(module(image, text).state, t)


@pytest.mark.parametrize("name", FUSIONS)
def test_every_fusion_trains_and_says_what_it_saw(tiny_model, batch, labels, name):
    model = tiny_model(fusion_type=name)
    model.set_attn_implementation("eager")
    output = model.train()(**batch, **labels, output_attentions=True)
    output.loss.backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if n.startswith("fusion"))
    assert (output.fusion_gates is not None) == (name == "gated")
    assert len(output.fusion_attentions) == ("attention" in name)


@pytest.mark.parametrize("top_k", [1, 2])
def test_experts_are_mixed_by_the_question(top_k):
    torch.manual_seed(0)
    module = MixtureOfExperts(config(fusion_num_experts=4, fusion_experts_per_question=top_k))
    states, question = torch.randn(6, 3, D), torch.randn(6, D)
    found, logits = module(states, question)
    for row in range(6):
        p = torch.softmax(module.choice.weight @ question[row], dim=0)
        best = p.argsort(descending=True)[:top_k].tolist()
        scale = p[best].sum() if top_k > 1 else 1.0
        expected = sum(p[e] / scale * module.experts[e](states[row])[0] for e in best)
        torch.testing.assert_close(found[row], expected)
        torch.testing.assert_close(logits[row].softmax(0), p)


def test_one_expert_is_the_plain_network():
    module = MixtureOfExperts(config(fusion_num_experts=1))
    plain = FeedForward(config())
    plain.load_state_dict(module.experts[0].state_dict())
    states = torch.randn(4, 2, D)
    torch.testing.assert_close(module(states, torch.randn(4, D))[0], plain(states)[0])


def test_unused_experts_stay_in_the_graph():
    module = MixtureOfExperts(config(fusion_num_experts=3))
    module.choice.weight.data.zero_()  # all rows take the same expert
    found, _ = module(torch.randn(4, 2, D), torch.randn(4, D))
    found.sum().backward()
    sums = [e[0].weight.grad.abs().sum().item() for e in module.experts]
    assert sorted(value > 0 for value in sums) == [False, False, True]


def test_load_balancing_loss_is_least_when_all_are_used_alike():
    even = 50.0 * torch.eye(3).repeat(4, 1)
    one = 50.0 * torch.eye(3)[:1].repeat(12, 1)
    assert load_balancing_loss([even]).item() == pytest.approx(1.0, abs=1e-4)
    assert load_balancing_loss([one]).item() == pytest.approx(3.0, abs=1e-4)
    assert load_balancing_loss([even, one]).item() == pytest.approx(2.0, abs=1e-4)
    torch.manual_seed(0)
    logits = torch.randn(5, 3)
    p = [row.exp() / row.exp().sum() for row in logits]
    for top_k in (1, 2):
        used = [sum(e in row.argsort(descending=True)[:top_k] for row in p) / (5 * top_k) for e in range(3)]
        expected = 3 * sum(used[e] * sum(row[e] for row in p) / 5 for e in range(3))
        torch.testing.assert_close(load_balancing_loss([logits], top_k), torch.as_tensor(expected))


def test_gradient_spreads_the_questions():
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [1.0, 0.0]], requires_grad=True)
    load_balancing_loss([logits]).backward()
    assert (logits.grad[:, 0] > 0).all() and (logits.grad[:, 1] < 0).all()


@pytest.mark.parametrize("name", ["attention", "cross_attention"])
def test_a_model_with_experts_adds_the_load_balancing_loss(tiny_model, batch, labels, name):
    model = tiny_model(fusion_type=name, fusion_num_experts=3, fusion_experts_per_question=2)
    found = model(**batch, **labels)
    model.config.load_balancing_loss_weight = 0.0
    torch.testing.assert_close(found.loss, model(**batch, **labels).loss + 0.01 * found.load_balancing_loss)
    assert found.expert_logits[0].shape == (4, 3)


def test_larger_and_deeper_variants_are_configuration(tiny_config):
    large = config(fusion_hidden_size=512, fusion_num_attention_heads=8)
    assert build_fusion(large).blocks[0].attention.head_dim == 64
    deep = config(binary_head_sizes=[D, D // 2, D // 4], open_ended_head_sizes=[D, D // 2, D // 4])
    widths = [
        layer.out_features for layer in AnswerHead(deep, deep.binary_head_sizes, 2) if isinstance(layer, nn.Linear)
    ]
    assert widths == [D, D // 2, D // 4, 2]


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"fusion_hidden_size": 10, "fusion_num_attention_heads": 4}, "10 is not divisible"),
        ({"fusion_num_experts": 2, "fusion_experts_per_question": 3}, "from 1 to fusion_num_experts 2, found 3"),
        ({"fusion_num_experts": 2, "fusion_experts_per_question": 0}, "found 0"),
        ({"fusion_num_experts": -1}, "must be a whole number, at least 0 and at most 1000; found -1"),
        ({"fusion_num_experts": 2, "fusion_type": "concat"}, "has none"),
        ({"fusion_pooling": "max"}, "mean, product; found 'max'"),
    ],
)
def test_what_does_not_fit_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        DualVQAConfig(**fields)


def test_an_unknown_fusion_is_named():
    with pytest.raises(ValueError, match="concat, product, gated; found 'sum'"):
        build_fusion(config(fusion_type="sum"))

"""The fusion modules: projected states of both towers in, one fused vector per question out."""

from typing import NamedTuple

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .feed_forward_dualvqa import build_feed_forward


class FusionOutput(NamedTuple):
    """What a fusion computes.

    Args:
        state: (B, D) the fused vectors.
        hidden_states: the states before the first and after each block; none in a fusion without blocks.
        attentions: each block's attention weights; None from an implementation that doesn't compute them.
        gates: (B, D) the share of the image in each feature, of a fusion that has gates.
        expert_logits: each block's scores (B, E) of its experts, where it has some.
    """

    state: torch.Tensor
    hidden_states: tuple = ()
    attentions: tuple = ()
    gates: torch.Tensor | None = None
    expert_logits: tuple = ()


def eager_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """softmax(q k^T scaling + mask) v (Vaswani et al. 2017, equation 1), with its weights."""
    scores = query @ key.transpose(2, 3) * scaling  # (B, heads, Tq, Tk)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(dim=-1)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2), weights  # (B, Tq, heads, d), (B, heads, Tq, Tk)


class MultiHeadAttention(nn.Module):
    """Multi-head attention from `queries` to `context`, through transformers' switchable attention functions."""

    is_causal = False
    num_key_value_groups = 1

    def __init__(self, config):
        super().__init__()
        width = config.fusion_hidden_size
        self.config = config
        self.head_dim = width // config.fusion_num_attention_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def split(self, states):
        return states.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, heads, T, d)

    def forward(self, queries, context, context_mask=None):
        """(B, Tq, D), (B, Tk, D) and the context's additive mask (B, 1, 1, Tk) -> (B, Tq, D) and the weights."""
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        attended, weights = attention(
            self,
            self.split(self.query(queries)),
            self.split(self.key(context)),
            self.split(self.value(context)),
            attention_mask=context_mask,
            scaling=self.head_dim**-0.5,
            dropout=self.config.fusion_dropout if self.training else 0.0,
        )
        return self.output(attended.flatten(2)), weights  # (B, Tq, D), (B, heads, Tq, Tk) or None


class Residual(nn.Module):
    """LayerNorm(x + dropout(update)): the post-norm residual of the source design."""

    def __init__(self, config):
        super().__init__()
        self.norm = nn.LayerNorm(config.fusion_hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.fusion_dropout)

    def forward(self, states, update):
        return self.norm(states + self.dropout(update))


def masked_mean(states, mask=None):
    """Mean over the sequence of (B, T, D) where `mask` (B, T) is 1."""
    if mask is None:
        return states.mean(dim=1)
    mask = mask.to(states.dtype)[..., None]  # (B, T, 1)
    return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)  # (B, D)


def padding_mask(mask, states):
    """What attention adds to its scores of (B, T) states that may be padding: (B, 1, 1, T), or None without a mask."""
    if mask is None:
        return None
    return (1 - mask.to(states.dtype))[:, None, None] * torch.finfo(states.dtype).min


class AttentionBlock(GradientCheckpointingLayer):
    """`states` attend to `context`, which may be themselves; the feed-forward network follows."""

    def __init__(self, config):
        super().__init__()
        self.attention = MultiHeadAttention(config)
        self.attention_residual = Residual(config)
        self.feed_forward = build_feed_forward(config)
        self.feed_forward_residual = Residual(config)

    def forward(self, states, context, question, context_mask=None):
        """(B, Tq, D), (B, Tk, D) and the question's (B, D) -> states, attention weights and expert logits or None."""
        update, weights = self.attention(states, context, context_mask)
        states = self.attention_residual(states, update)
        update, expert_logits = self.feed_forward(states, question)
        return self.feed_forward_residual(states, update), weights, expert_logits


class AttentionFusion(nn.Module):
    """The source design's fusion: self-attention over the two pooled vectors, then their mean.

    A mean adds up what image and question say, and can't express what matters of one given the other. Two options make
    it able to, each alone: `fusion_product_vector` lets the two vectors' elementwise product take part as a third;
    `fusion_pooling="product"` multiplies the states in place of averaging them, without a single parameter more.
    """

    uses_sequences = False

    def __init__(self, config):
        super().__init__()
        self.product_vector, self.pooling = config.fusion_product_vector, config.fusion_pooling
        self.blocks = nn.ModuleList(AttentionBlock(config) for _ in range(config.fusion_num_layers))

    def forward(self, vision, text, text_mask=None):
        vision, text = vision[:, :1], text[:, :1]
        states = torch.cat([vision, text, vision * text] if self.product_vector else [vision, text], dim=1)
        hidden_states, attentions, expert_logits = (states,), (), ()
        for block in self.blocks:
            states, weights, scores = block(states, states, text[:, 0])
            hidden_states += (states,)  # (B, 2, D), or 3 with the product
            attentions += (weights,)  # (B, heads, 2, 2)
            expert_logits += (scores,)
        fused = states.prod(dim=1) if self.pooling == "product" else states.mean(dim=1)
        return FusionOutput(fused, hidden_states, attentions, expert_logits=expert_logits)


class CrossAttentionFusion(nn.Module):
    """Question tokens attend to the image; their mean, times the image's pooled vector, is the result.

    Every word meets every place of the image before anything is averaged. The elementwise product binds the question
    to the image, as in ViLBERT's answer classifier (Lu et al. 2019, section 3.2): each feature of the image counts as
    much as the question asks for it, which a sum of the two can't express. With `fusion_bidirectional` the image
    attends to the question's tokens as well, both from the states before the block (Lu et al. 2019, figure 2b).
    """

    uses_sequences = True

    def __init__(self, config):
        super().__init__()
        self.text_norm = nn.LayerNorm(config.fusion_hidden_size, eps=config.layer_norm_eps)
        self.blocks = nn.ModuleList(AttentionBlock(config) for _ in range(config.fusion_num_layers))
        self.vision_norm = self.vision_blocks = None
        if config.fusion_bidirectional:
            self.vision_norm = nn.LayerNorm(config.fusion_hidden_size, eps=config.layer_norm_eps)
            self.vision_blocks = nn.ModuleList(AttentionBlock(config) for _ in range(config.fusion_num_layers))

    def forward(self, vision, text, text_mask=None):
        question, text = text[:, 0], self.text_norm(text)
        if self.vision_blocks is not None:
            vision, mask = self.vision_norm(vision), padding_mask(text_mask, text)
        hidden_states, to_image, to_question, expert_logits = (text,), (), (), ()
        for number, block in enumerate(self.blocks):
            before = text
            text, weights, scores = block(text, vision, question)
            hidden_states += (text,)  # (B, T, D)
            to_image += (weights,)  # (B, heads, T, 1 + S)
            expert_logits += (scores,)
            if self.vision_blocks is not None:
                vision, weights, scores = self.vision_blocks[number](vision, before, question, mask)
                to_question += (weights,)  # (B, heads, 1 + S, T)
                expert_logits += (scores,)
        fused = masked_mean(text, text_mask) * vision[:, 0]
        return FusionOutput(fused, hidden_states, to_image + to_question, expert_logits=expert_logits)


class ConcatFusion(nn.Module):
    """Both pooled vectors side by side, through one layer."""

    uses_sequences = False

    def __init__(self, config):
        super().__init__()
        width = config.fusion_hidden_size
        self.mix = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Dropout(config.fusion_dropout))

    def forward(self, vision, text, text_mask=None):
        return FusionOutput(self.mix(torch.cat([vision[:, 0], text[:, 0]], dim=-1)))


class ProductFusion(nn.Module):
    """The elementwise product of both pooled vectors (Antol et al. 2015, section 5.2). It has no parameters."""

    uses_sequences = False

    def __init__(self, config):
        super().__init__()
        self.dropout = nn.Dropout(config.fusion_dropout)

    def forward(self, vision, text, text_mask=None):
        return FusionOutput(self.dropout(vision[:, 0] * text[:, 0]))


class GatedFusion(nn.Module):
    """z tanh(W_v v) + (1 - z) tanh(W_t t) with z = sigmoid(W_z [v, t]) (Arevalo et al. 2017, equation 1 to 5)."""

    uses_sequences = False

    def __init__(self, config):
        super().__init__()
        width = config.fusion_hidden_size
        self.vision, self.text = nn.Linear(width, width), nn.Linear(width, width)
        self.gate = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(config.fusion_dropout)

    def forward(self, vision, text, text_mask=None):
        vision, text = vision[:, 0], text[:, 0]
        gates = self.gate(torch.cat([vision, text], dim=-1)).sigmoid()  # (B, D)
        fused = gates * self.vision(vision).tanh() + (1 - gates) * self.text(text).tanh()
        return FusionOutput(self.dropout(fused), gates=gates)


# fusion_type -> class: forward(vision (B, 1 + S, D), text (B, T, D), text_mask (B, T)) -> FusionOutput.
# `uses_sequences` says whether it reads more than the first (pooled) vector of each tower.
FUSIONS = {
    "attention": AttentionFusion,
    "cross_attention": CrossAttentionFusion,
    "concat": ConcatFusion,
    "product": ProductFusion,
    "gated": GatedFusion,
}


def build_fusion(config):
    """The fusion module that `config.fusion_type` names.

    Raises:
        ValueError: there is none of that name.
    """
    if config.fusion_type not in FUSIONS:
        raise ValueError(f"fusion_type must be one of {', '.join(FUSIONS)}; found {config.fusion_type!r}")
    return FUSIONS[config.fusion_type](config)

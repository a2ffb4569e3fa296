"""The fusion modules: projected states of both towers in, one fused vector per question out."""

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


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

    def forward(self, queries, context):
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        attended, weights = attention(
            self,
            self.split(self.query(queries)),
            self.split(self.key(context)),
            self.split(self.value(context)),
            attention_mask=None,  # nothing attended to is ever padded: two vectors, or an image's grid
            scaling=self.head_dim**-0.5,
            dropout=self.config.fusion_dropout if self.training else 0.0,
        )
        return self.output(attended.flatten(2)), weights  # (B, Tq, D), (B, heads, Tq, Tk) or None


class FeedForward(nn.Sequential):
    def __init__(self, config):
        super().__init__(
            nn.Linear(config.fusion_hidden_size, config.fusion_intermediate_size),
            nn.GELU(),
            nn.Linear(config.fusion_intermediate_size, config.fusion_hidden_size),
        )


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


class AttentionBlock(GradientCheckpointingLayer):
    """`states` attend to `context`, which may be themselves; the feed-forward network follows."""

    def __init__(self, config):
        super().__init__()
        self.attention = MultiHeadAttention(config)
        self.attention_residual = Residual(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_residual = Residual(config)

    def forward(self, states, context):
        update, weights = self.attention(states, context)
        states = self.attention_residual(states, update)
        return self.feed_forward_residual(states, self.feed_forward(states)), weights


class AttentionFusion(nn.Module):
    """The source design's fusion: self-attention over the two pooled vectors, then their mean."""

    uses_sequences = False

    def __init__(self, config):
        super().__init__()
        self.blocks = nn.ModuleList(AttentionBlock(config) for _ in range(config.fusion_num_layers))

    def forward(self, vision, text, text_mask=None):
        states = torch.cat([vision[:, :1], text[:, :1]], dim=1)  # (B, 2, D)
        hidden_states, attentions = (states,), ()
        for block in self.blocks:
            states, weights = block(states, states)
            hidden_states += (states,)
            attentions += (weights,)  # (B, heads, 2, 2)
        return states.mean(dim=1), hidden_states, attentions


class CrossAttentionFusion(nn.Module):
    """Question tokens attend to the image; their mean, times the image's pooled vector, is the result.

    Every word meets every place of the image before anything is averaged. The elementwise product binds the question
    to the image, as in ViLBERT's answer classifier (Lu et al. 2019, section 3.2): each feature of the image counts as
    much as the question asks for it, which a sum of the two can't express.
    """

    uses_sequences = True

    def __init__(self, config):
        super().__init__()
        self.text_norm = nn.LayerNorm(config.fusion_hidden_size, eps=config.layer_norm_eps)
        self.blocks = nn.ModuleList(AttentionBlock(config) for _ in range(config.fusion_num_layers))

    def forward(self, vision, text, text_mask=None):
        text = self.text_norm(text)
        hidden_states, attentions = (text,), ()
        for block in self.blocks:
            text, weights = block(text, vision)
            hidden_states += (text,)  # (B, T, D)
            attentions += (weights,)  # (B, heads, T, 1 + S)
        return masked_mean(text, text_mask) * vision[:, 0], hidden_states, attentions


# fusion_type -> class: forward(vision (B, 1 + S, D), text (B, T, D), text_mask (B, T)) -> the fused vectors (B, D), the
# states before the first and after each block, and each block's attention weights.
# `uses_sequences` says whether it reads more than the first (pooled) vector of each tower.
FUSIONS = {
    "attention": AttentionFusion,
    "cross_attention": CrossAttentionFusion,
}


def build_fusion(config):
    """The fusion module that `config.fusion_type` names.

    Raises:
        ValueError: there is none of that name.
    """
    if config.fusion_type not in FUSIONS:
        raise ValueError(f"fusion_type must be one of {', '.join(FUSIONS)}; found {config.fusion_type!r}")
    return FUSIONS[config.fusion_type](config)

"""What the model computes."""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class DualVQAOutput(ModelOutput):
    """What the model computes for B questions, V of them different, about U images.

    Args:
        loss: scalar, when labels are given.
        binary_logits: (B, 2) scores of no and yes; None without that head.
        open_ended_logits: (B, N) scores of the answers of the vocabulary; None without that head. Of a model with a
            memory (B, N + E), with the E answers that only the memory knows behind the others.
        question_type_logits: (B, 2) scores of the question being yes/no and open-ended; None with one head.
        image_novelty, question_novelty: (B,) how unlike those of training each one's image and question are to the
            towers, of a model with `familiarity`; see `familiarity_dualvqa.TowerFamiliarity`.
        novelty: (B,) in their place, of a folder saved by an earlier version: squared distance of the fused state.
        memory_indices: (B, k) the examples that are most like each question, of a model with a `memory` in evaluation
            mode, the most similar first. All logits are those of heads and memory together then; `loss` is the heads'.
        memory_weights, memory_similarities: (B, k) how much each of them counts in the vote, and how similar it is; see
            `memory_dualvqa.mix`.
        memory_share: (B,) the share of the memory against the heads.
        fused_state: (B, D) what the heads read.
        image_embeds: (U, 1 + S, C_vision) pooled state and grid, or (U, 1, C_vision) when the fusion reads only the
            pooled state; can be given back to the model in place of pixels.
        text_embeds: (V, T, C_text), or (V, 1, C_text) likewise; can be given back in place of ids.
        fusion_attentions: with `output_attentions`, one tensor of attention weights per fusion block: (B, heads, 2, 2)
            for "attention", (B, heads, T, 1 + S) for "cross_attention", and behind them (B, heads, 1 + S, T) where the
            image attends to the question too; none for a fusion without attention, and for an attention implementation
            other than eager.
        fusion_gates: (B, D) the image's share in each feature, of a "gated" fusion.
        expert_logits: scores (B, E) of the experts for each question, one tensor per block that has experts.
        load_balancing_loss: scalar, where there are experts; see `feed_forward_dualvqa`. With labels it is in `loss`.
        text_attentions, image_attentions: likewise, per layer of the towers: (V, heads, T, T). None for a tower without
            attention, and for one whose own attention implementation isn't eager.
        fusion_hidden_states: with `output_hidden_states`, the states before the first and after each fusion block:
            (B, 2, D) for "attention", (B, T, D) for "cross_attention"; none for a fusion without blocks.
        text_hidden_states: likewise, the embeddings and the states after each layer: (V, T, C_text).
        image_hidden_states: likewise, what each stage of the tower gives: feature maps (U, C, h, w) or states.
    """

    loss: torch.Tensor | None = None
    binary_logits: torch.Tensor | None = None
    open_ended_logits: torch.Tensor | None = None
    question_type_logits: torch.Tensor | None = None
    novelty: torch.Tensor | None = None
    image_novelty: torch.Tensor | None = None
    question_novelty: torch.Tensor | None = None
    memory_indices: torch.Tensor | None = None
    memory_weights: torch.Tensor | None = None
    memory_similarities: torch.Tensor | None = None
    memory_share: torch.Tensor | None = None
    fused_state: torch.Tensor | None = None
    image_embeds: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    fusion_gates: torch.Tensor | None = None
    expert_logits: tuple | None = None
    load_balancing_loss: torch.Tensor | None = None
    fusion_attentions: tuple | None = None
    text_attentions: tuple | None = None
    image_attentions: tuple | None = None
    fusion_hidden_states: tuple | None = None
    text_hidden_states: tuple | None = None
    image_hidden_states: tuple | None = None

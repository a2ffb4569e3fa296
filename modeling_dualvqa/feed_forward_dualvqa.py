"""The feed-forward network of a fusion block, alone or as several experts of which each question takes a few."""

import torch
from torch import nn


class FeedForward(nn.Sequential):
    def __init__(self, config):
        super().__init__(
            nn.Linear(config.fusion_hidden_size, config.fusion_intermediate_size),
            nn.GELU(),
            nn.Linear(config.fusion_intermediate_size, config.fusion_hidden_size),
        )

    def forward(self, states, question=None):
        return super().forward(states), None


class MixtureOfExperts(nn.Module):
    """E feed-forward networks; the question's vector decides which k of them see all states of its row.

    Shazeer et al. 2017, "Outrageously Large Neural Networks", equation 1. With k = 1 an expert's output counts by its
    probability (Fedus et al. 2021, "Switch Transformers", equation 2), so that the choice has a gradient; with more the
    probabilities of the chosen ones are scaled to sum 1 (Lepikhin et al. 2020, "GShard", algorithm 1).
    """

    def __init__(self, config):
        super().__init__()
        self.top_k = config.fusion_experts_per_question
        self.choice = nn.Linear(config.fusion_hidden_size, config.fusion_num_experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(config) for _ in range(config.fusion_num_experts))

    def forward(self, states, question):
        """states (B, T, D), question (B, D) -> (B, T, D), expert logits (B, E)."""
        logits = self.choice(question)
        weights, chosen = logits.float().softmax(dim=-1).topk(self.top_k, dim=-1)  # (B, k)
        if self.top_k > 1:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        shares = torch.zeros_like(logits).scatter(1, chosen, weights.to(logits.dtype))  # (B, E), 0 where not chosen
        if torch.compiler.is_exporting():  # how many rows an expert gets can't be known beforehand
            parts = [expert(states)[0] * shares[:, i, None, None] for i, expert in enumerate(self.experts)]
            return torch.stack(parts).sum(dim=0), logits
        total = torch.zeros_like(states)
        for number, expert in enumerate(self.experts):
            # Without a row an expert is still part of the graph: several processes wait for all gradients.
            rows = (chosen == number).any(dim=-1).nonzero()[:, 0]
            part = expert(states[rows])[0] * shares[rows, number, None, None]
            total = total.index_add(0, rows, part.to(total.dtype))
        return total, logits


def build_feed_forward(config):
    return MixtureOfExperts(config) if config.fusion_num_experts else FeedForward(config)


def load_balancing_loss(expert_logits, top_k=1):
    """E * sum_e f_e P_e, the mean over the blocks: 1 where all experts are used alike, up to E where one does all.

    f_e is the share of the choices that fell on expert e and P_e the mean of its probability (Fedus et al. 2021,
    equations 4 to 6; k choices for each row count alike). The gradient goes through P.

    Args:
        expert_logits: (B, E) of each block.
        top_k: how many experts each row takes.
    """
    losses = []
    for logits in expert_logits:
        probabilities = logits.float().softmax(dim=-1)
        used = choices(logits, top_k).float().mean(dim=0) / top_k
        losses.append(logits.shape[-1] * (used * probabilities.mean(dim=0)).sum())
    return torch.stack(losses).mean()


def choices(expert_logits, top_k=1):
    """(B, E) logits -> (B, E) bool, true for each row's k experts."""
    chosen = expert_logits.topk(top_k, dim=-1).indices
    return torch.zeros_like(expert_logits, dtype=torch.bool).scatter(1, chosen, True)

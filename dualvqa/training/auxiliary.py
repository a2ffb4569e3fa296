"""Heads that only training has: what else is known of a question helps to shape its fused state."""

from dataclasses import dataclass

import torch
from torch import nn

from modeling_dualvqa.loss_dualvqa import IGNORE_INDEX, count_valid, focal_loss
from modeling_dualvqa.modeling_dualvqa import DualVQAOutput

NAME = "auxiliary_heads"
CANONICAL = ("image", "question", "answer", "image_key", "row", "row_place")


@dataclass
class AuxiliaryOutput(DualVQAOutput):
    """What the model computes in training, and K tensors (B, values). DDP builds it anew from its declared fields."""

    auxiliary_logits: tuple | None = None


class AuxiliaryTargets:
    """Columns of the training rows that small heads predict besides the answer, as in multi-task learning.

    Caruana 1997, "Multitask Learning".

    Args:
        values: column -> the different values that its head tells apart, as strings.
    """

    def __init__(self, values):
        self.values = values
        self.index = {column: {value: n for n, value in enumerate(found)} for column, found in values.items()}

    @classmethod
    def of_rows(cls, rows, columns):
        """The targets with the values that occur in the columns of canonical rows.

        Raises:
            ValueError: a column that doesn't exist, that the model reads or answers with, or with less than two values.
        """
        values, own = {}, [name for name in rows.column_names if name not in CANONICAL]
        for column in columns:
            if column not in own:
                raise ValueError(
                    f"--auxiliary_columns {column}: expected a further column of the training part, which has "
                    f"{', '.join(own) or 'none'}"
                )
            values[column] = sorted({text for text in map(as_text, rows[column]) if text})
            if len(values[column]) < 2:
                raise ValueError(
                    f"--auxiliary_columns {column}: there is nothing to tell apart in a column with "
                    f"{len(values[column])} different values; leave it out"
                )
        return cls(values)

    def labels(self, rows):
        """(B, K) the index of each row's value in each column; -100 where it has none that training has."""
        return torch.tensor(
            [[self.index[column].get(as_text(row[column]), IGNORE_INDEX) for column in self.values] for row in rows]
        )

    def batch(self, rows):
        """`auxiliary_labels` (B, K) of canonical rows."""
        return {"auxiliary_labels": self.labels(rows)}

    def attach(self, model):
        """Gives the model its heads, and their logits to its outputs in training: see [`AuxiliaryOutput`].

        They are computed in its forward pass, where DDP looks for them.

        Raises:
            ValueError: the model has adapters (PEFT), whose checkpoints would be without these heads.
        """
        if getattr(model, "peft_config", None):
            raise ValueError("auxiliary heads aren't kept in checkpoints of adapters (PEFT); leave one of the two out")
        config = model.config
        heads = nn.ModuleList(nn.Linear(config.fusion_hidden_size, len(found)) for found in self.values.values())
        for head in heads:
            nn.init.normal_(head.weight, std=config.initializer_range)
            nn.init.zeros_(head.bias)
        setattr(model, NAME, heads.to(model.device, model.dtype))

        def answer(model, inputs, outputs):
            if model.training and hasattr(model, NAME):
                logits = tuple(head(outputs["fused_state"]) for head in getattr(model, NAME))
                return AuxiliaryOutput(**outputs, auxiliary_logits=logits)
            return outputs

        return model.register_forward_hook(answer)

    @staticmethod
    def detach(model, hook):
        """Takes the heads away again: nothing but training needs them."""
        hook.remove()
        delattr(model, NAME)


def as_text(value):
    return "" if value is None or value != value else str(value).strip()  # NaN is a gap


def auxiliary_counts(labels):
    """(K,) valid rows of each column in (B, K) labels."""
    return torch.stack([count_valid(column) for column in labels.unbind(dim=1)])


def auxiliary_loss(logits, labels, counts=None):
    """Mean over the columns of the cross-entropy of each, summed over its valid rows and divided by its count.

    Args:
        logits: K tensors (B, values).
        labels: (B, K), -100 for no part in the loss.
        counts: (K,) valid rows in the whole effective batch; those of this batch when left out.
    """
    counts = auxiliary_counts(labels) if counts is None else counts
    parts = [
        focal_loss(scores, column, gamma=0.0) / count.clamp(min=1)
        for scores, column, count in zip(logits, labels.unbind(dim=1), counts)
    ]
    return sum(parts) / len(parts)

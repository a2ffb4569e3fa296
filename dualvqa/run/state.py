"""What the stages of a run hand on to one another."""

import contextlib
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Run:
    """One run. Each stage is a function of it, reads what earlier stages have left, and leaves its own.

    Attributes:
        settings: the groups of arguments: `model`, `data`, `training`.
        held: what is held until the run ends, such as its folder.
        checkpoint: the one that the run goes on from, or None.
        model, processor: loaded by `load` or built by `build`; of an ensemble the first member's until `build`.
        together: the ensemble's model and collator, or None.
        parts: name -> canonical rows.
        preset: the [`Preset`] that fills in what is not given, or None.
        raw: name -> rows as their source has them, for the predictions file.
        calibrating: whether the run calibrates.
        trainer: the [`DualVQATrainer`], or a `ContrastiveTrainer`.
    """

    settings: Any
    held: contextlib.ExitStack
    checkpoint: str | None = None
    model: Any = None
    processor: Any = None
    together: tuple | None = None
    parts: dict = field(default_factory=dict)
    preset: Any = None
    raw: dict = field(default_factory=dict)
    calibrating: bool = False
    trainer: Any = None

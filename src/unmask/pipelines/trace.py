"""Snapshots of a generation: one row of the canvas after one step, as plain text and numbers.

Renderers need nothing else, so a recording can be replayed without a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["given", "masked", "waiting", "kept", "revealed", "remasked"]
"""given: part of the prompt; masked: masked; waiting: masked, in a later block; kept: generated in
an earlier step; revealed: generated in this step; remasked: masked again in this step."""
HIDDEN: tuple[Status, ...] = ("masked", "waiting", "remasked")


@dataclass(frozen=True)
class Snapshot:
    """One row of a canvas after one step.

    Attributes:
        step: 0 for the blank canvas.
        seconds: Wall-clock time since the start of the generation.
        nfe: Network calls so far.
        pieces: Text of each token, spaces included; joined they are the text. Empty for a mask,
            and for a token whose character a later one completes.
        status: State of each token.
        confidence: Probability of each token in its step, None where unknown.
    """

    step: int
    seconds: float
    nfe: int
    pieces: tuple[str, ...]
    status: tuple[Status, ...]
    confidence: tuple[float | None, ...]


@dataclass(frozen=True)
class Track:
    """The snapshots of one generation, in order, with a label (model, sampler)."""

    label: str
    snapshots: tuple[Snapshot, ...]

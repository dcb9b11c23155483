"""Gibbs sampling: mask and redraw one position at a time."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unmask.diffusion.rng import RowRng
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.base import Clock, Move, Policy, Prediction


@dataclass(frozen=True)
class Gibbs(Policy):
    """Mask one token per step and redraw it given all others.

    The position of the next step is masked at the end of a step, so the network never sees its
    token. Positions that were never visited are revealed in the last step.

    Args:
        sequential: Sweep from left to right; else visit a random position of each row.

    Reference: Wang and Cho 2019, "BERT has a Mouth, and It Must Speak", arXiv:1902.04094. The
    authors withdrew the interpretation as a Markov random field: the conditionals of a trained
    network belong to no joint distribution, so the law of the chain depends on the order of visits.
    """

    revises = True

    sequential: bool = False

    def settled(self, canvas: Canvas, clock: Clock) -> Tensor:
        return ~canvas.editable.any(1)

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        if clock.last:
            return canvas.masked
        return self._place(canvas, clock.step, rng) & canvas.masked

    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        if clock.last:
            return Move(candidates)
        return Move(candidates, self._place(canvas, clock.step + 1, rng))

    def _place(self, canvas: Canvas, step: int, rng: RowRng) -> Tensor:
        """Return the position of a step, one per row that has any, shape (B, L), bool."""
        count = canvas.editable.sum(1)
        if self.sequential:
            index = step % count.clamp_min(1)
        else:
            index = (rng.uniform("gibbs", step, 1)[:, 0] * count).long()
        return canvas.editable & (canvas.editable.cumsum(1) == index[:, None] + 1)

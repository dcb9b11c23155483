"""The reverse of token-to-token noise as a policy: every step redraws every token."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unmask.diffusion.rng import RowRng
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.base import Clock, Move, Policy, Prediction, grid_time


@dataclass(frozen=True)
class TransitionReverse(Policy):
    """Draw x_s from q(x_s | x_t, x_0), x_0 drawn from the prediction, at every editable position.

    Reference: Austin et al. 2021, arXiv:2107.03006, Section 3 (the x_0 parametrisation).
    """

    revises = True

    def time(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        return grid_time(canvas, clock)

    def settled(self, canvas: Canvas, clock: Clock) -> Tensor:
        return ~canvas.editable.any(1)

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        return canvas.editable

    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        u, here = rng.uniform("transition", clock.step, canvas.ids.shape[1]), canvas.editable
        # Given tokens need not be data of the process.
        now, goal = canvas.ids[here], prediction.tokens[here]
        drawn = clock.process.step_back(now, goal, clock.t, clock.s, u[here])
        tokens = canvas.ids.masked_scatter(here, drawn)
        return Move(tokens != canvas.ids, tokens=tokens)

r"""Hiding visible tokens again because the network doubts them.

    Planned    in every step the least likely tokens are masks, whether new or old
    Edited     an order of your own, and what has become unlikely is written anew

Both ask the network about tokens that it can see, for its own probability of each. That says more
the less a network just copies what it sees: BERT's objective (10 % wrong, 10 % unchanged tokens)
teaches it to judge them, masked diffusion never asks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.diffusion.rng import RowRng
from unmask.errors import UserError
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.base import Clock, Move, Policy, Prediction, best
from unmask.sampling.samplers.confidence import ThresholdEdit
from unmask.sampling.samplers.remasking import P2
from unmask.validation import Options, with_default


@dataclass(frozen=True)
class Planned(Options, Policy):
    r"""Keep the likeliest tokens of all, new and old, as many as the time grid says.

    After a step floor(N (1 - alpha_s)) of the N editable tokens of a row are masks: those of the
    lowest score, which is log p(token) by the network's own distribution. A masked token is scored
    by its new guess, a visible one by what stands there, times eta.

    Args:
        eta: 0 never hides a visible token, which makes this ``MostConfident`` with the measure
            ``policies.confidence``; 1 treats old and new alike; above 1 more is hidden.

    Reference: Peng et al. 2025, "Path Planning for Masked Diffusion Model Sampling" (P2),
    arXiv:2502.03540, self-planning.
    """

    revises = True

    eta: float = with_default(P2, "eta")

    @property
    def reads(self) -> str:
        return "confidence"

    def settled(self, canvas: Canvas, clock: Clock) -> Tensor:
        # The number of masks only falls.
        return ~canvas.masked.any(1) & (self._hidden(canvas, clock) == 0)

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        competes = (self._hidden(canvas, clock) > 0) & (self.eta > 0)
        return canvas.masked | (canvas.editable & competes[:, None])

    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        own = prediction.measured.double()
        score = own.clamp_min(torch.finfo(own.dtype).tiny).log()
        # An old token that is as likely as a new one stays.
        score = torch.where(canvas.masked, score - 1e-12, self.eta * score * candidates)
        kept = canvas.editable.sum(1) - self._hidden(canvas, clock)
        keep = best(score.masked_fill(~canvas.editable, -torch.inf), kept)
        return Move(candidates & canvas.masked & keep, canvas.editable & ~canvas.masked & ~keep)

    def _hidden(self, canvas: Canvas, clock: Clock) -> Tensor:
        """Return the masks that each row has after the step, shape (B,), int64."""
        count = canvas.editable.sum(1)
        if clock.last:
            return torch.zeros_like(count)
        # The small term keeps a product such as 10 * (1 - 0.9) from falling below its integer.
        return torch.floor(count * clock.process.schedule.mask_prob(clock.s) + 1e-9).long()


@dataclass(frozen=True)
class Edited(Options, Policy):
    """Write in an order of your own; hide visible tokens that the network no longer believes in.

    A visible token whose probability has fallen below a bound is hidden, and written anew in a
    later step. Each position is hidden a limited number of times, so this ends. The network is told
    the time of the canvas.

    Args:
        order: How masks are written: a policy that hides nothing itself.
        edit_threshold: A token with a lower probability by the network's own distribution is
            hidden.
        times: How often a position may be hidden.

    Reference: the editing threshold of "LLaDA2.1: Speeding Up Text Diffusion via Token Editing"
    (2026), which replaces such a token at once.
    """

    revises = True

    order: Policy
    edit_threshold: float = with_default(ThresholdEdit, "edit_threshold")
    times: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.times < 1:
            raise UserError(f"a position must be editable at least once, not {self.times} times")
        if self.order.reads not in (None, self.reads):
            raise UserError(
                f"editing judges tokens by {self.reads!r}, so the order cannot go by "
                f"{self.order.reads!r}"
            )

    @property
    def reads(self) -> str:
        return "confidence"

    def most_steps(self, masks: int) -> int:
        # Every step but the final one writes or hides something.
        return self.order.most_steps(masks) * (1 + 2 * self.times) + 1

    def settled(self, canvas: Canvas, clock: Clock) -> Tensor:
        # Asked again about the same canvas, the network would say the same.
        nothing_to_hide = clock.past.idle | ~self._open(canvas, clock).any(1)
        return ~canvas.masked.any(1) & nothing_to_hide

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        return self.order.candidates(canvas, clock, rng) | self._open(canvas, clock)

    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        move = self.order.choose(canvas, candidates & canvas.masked, prediction, clock, rng)
        doubtful = candidates & ~canvas.masked & (prediction.measured < self.edit_threshold)
        return Move(move.reveal, doubtful, move.tokens)

    def _open(self, canvas: Canvas, clock: Clock) -> Tensor:
        """Return where a visible token may still be hidden, shape (B, L), bool."""
        if clock.last:
            return torch.zeros_like(canvas.masked)
        return canvas.editable & ~canvas.masked & (clock.past.hidden < self.times)

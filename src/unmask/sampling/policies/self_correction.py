r"""Self-correction: visible tokens that the network finds unlikely are masked again.

    Planned    after every step the least likely tokens are masks, new or old
    Edited     any order of unmasking; tokens that have become unlikely are masked and redrawn

Both query the network at visible tokens, for its probability of each. That is informative as far as
a network does not just copy its input: BERT's objective (10 % wrong, 10 % unchanged tokens) trains
it to judge visible tokens, masked diffusion does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.diffusion.rng import RowRng
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.base import Clock, Move, Policy, Prediction, best
from unmask.sampling.samplers.confidence import ThresholdEdit
from unmask.sampling.samplers.remasking import P2
from unmask.validation import Options, option, require, whole, with_default


@dataclass(frozen=True)
class Planned(Options, Policy):
    r"""Keep the most likely tokens, new and old, as many as the time grid prescribes.

    After a step floor(N (1 - alpha_s)) of the N editable tokens of a row are masks: those with the
    lowest score. The score is log p(token) under the network's own distribution: of the drawn token
    at a mask, of the visible token, times eta, elsewhere.

    Args:
        eta: 0 never masks a visible token, which makes this ``MostConfident`` with the metric
            ``confidence``; 1 treats old and new tokens alike; above 1 masks more of the old.

    Reference: Peng et al. 2025, "Path Planning for Masked Diffusion Model Sampling" (P2),
    arXiv:2502.03540, self-planning.
    """

    revises = True

    eta: float = with_default(P2, "eta")

    @property
    def reads(self) -> str:
        return "confidence"

    def settled(self, canvas: Canvas, clock: Clock) -> Tensor:
        # The number of masks never grows.
        return ~canvas.masked.any(1) & (self._masks_after(canvas, clock) == 0)

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        competes = (self._masks_after(canvas, clock) > 0) & (self.eta > 0)
        return canvas.masked | (canvas.editable & competes[:, None])

    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        own = prediction.measured.double()
        score = own.clamp_min(torch.finfo(own.dtype).tiny).log()
        # At equal probability the old token stays.
        score = torch.where(canvas.masked, score - 1e-12, self.eta * score * candidates)
        kept = canvas.editable.sum(1) - self._masks_after(canvas, clock)
        keep = best(score.masked_fill(~canvas.editable, -torch.inf), kept)
        return Move(candidates & canvas.masked & keep, canvas.editable & ~canvas.masked & ~keep)

    def _masks_after(self, canvas: Canvas, clock: Clock) -> Tensor:
        """Return the number of masks in each row after the step, shape (B,), int64."""
        count = canvas.editable.sum(1)
        if clock.last:
            return torch.zeros_like(count)
        # The small term keeps a product such as 10 * (1 - 0.9) from rounding below its integer.
        return torch.floor(count * clock.process.schedule.mask_prob(clock.s) + 1e-9).long()


@dataclass(frozen=True)
class Edited(Options, Policy):
    """Unmask by any policy; mask visible tokens again whose probability has become low.

    A visible token below ``edit_threshold`` is masked and redrawn in a later step. Each position is
    masked a limited number of times, so this ends. The network is conditioned on the time of the
    canvas.

    Args:
        order: The policy that unmasks; it must not mask tokens itself.
        edit_threshold: Visible tokens with a lower probability under the network's own distribution
            are masked.
        times: How often a position may be masked again.

    Reference: the editing threshold of "LLaDA2.1: Speeding Up Text Diffusion via Token Editing"
    (2026), which replaces such a token immediately.
    """

    revises = True

    order: Policy
    edit_threshold: float = with_default(ThresholdEdit, "edit_threshold")
    times: int = option(1, "How often a position may be masked again.", whole, low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        reads, fits = self.order.reads, f"another sampler; editing judges by {self.reads!r}"
        require((f"confidence_metric = {reads!r}", reads in (None, self.reads), fits))

    @property
    def reads(self) -> str:
        return "confidence"

    def most_steps(self, masks: int) -> int:
        # Every step but the final one reveals or masks a token.
        return self.order.most_steps(masks) * (1 + 2 * self.times) + 1

    def settled(self, canvas: Canvas, clock: Clock) -> Tensor:
        # The predictions for an unchanged canvas would be the same.
        nothing_to_mask = clock.past.idle | ~self._open(canvas, clock).any(1)
        return ~canvas.masked.any(1) & nothing_to_mask

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        return self.order.candidates(canvas, clock, rng) | self._open(canvas, clock)

    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        move = self.order.choose(canvas, candidates & canvas.masked, prediction, clock, rng)
        doubtful = candidates & ~canvas.masked & (prediction.measured < self.edit_threshold)
        return Move(move.reveal, doubtful, move.tokens)

    def _open(self, canvas: Canvas, clock: Clock) -> Tensor:
        """Return where a visible token may still be masked, shape (B, L), bool."""
        if clock.last:
            return torch.zeros_like(canvas.masked)
        return canvas.editable & ~canvas.masked & (clock.past.remask_count < self.times)

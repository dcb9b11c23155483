r"""Remasking: visible tokens are masked again at random, so that mistakes can be corrected.

Renoise    redraw everything, then mask at the next mask rate
Remask     the reverse process with a probability sigma of masking a visible token

With alpha_t, alpha_s the probabilities to be visible before and after a step, ``Remask`` has

    visible    masked with probability sigma
    masked     revealed with probability (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t)

so the number of visible tokens at s has the same law as without it. The same trained network serves
for every sigma up to min(1, (1 - alpha_s) / alpha_t), where the second line reaches 1. A rule
chooses sigma:

    Capped         a constant
    Rescaled       a share of the largest possible
    LeastConfident      one token per step, more likely one that was drawn with low confidence
    Loop           a constant, in an interval of time with a constant mask rate
    NextRate       the mask rate after the step: the visible set is independent of the step before
    ForwardBackward   the probability with which the forward process would mask in this step

Reference: Wang et al. 2025, "Remasking Discrete Diffusion Models with Inference-Time Scaling"
(ReMDM), arXiv:2503.00307, Section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from unmask.diffusion.rng import RowRng
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.base import Clock, Move, Policy, Prediction, grid_time
from unmask.sampling.samplers.remasking import ReMDMCap, ReMDMLoop, ReMDMRescale
from unmask.validation import Options, option, real, require, with_default


@dataclass(frozen=True)
class Renoise(Policy):
    """Redraw everything, then mask each editable token at the next mask rate.

    Which tokens get masked does not depend on the predictions, so it is decided first, and only the
    tokens that stay are queried: the same distribution for less work.

    Reference: N. Barry 2025, "BERT is just a single text diffusion step".
    """

    revises = True

    def time(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        return grid_time(canvas, clock)

    def settled(self, canvas: Canvas, clock: Clock) -> Tensor:
        return ~canvas.editable.any(1)

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        chance = rng.uniform("renoise", clock.step, canvas.ids.shape[1])
        # The mask rate of a schedule may end slightly above 0; a canvas must end without masks.
        stay = clock.last or chance >= clock.process.schedule.mask_prob(clock.s)
        return canvas.editable & stay

    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        return Move(candidates, canvas.editable & ~candidates)


class Rates(NamedTuple):
    """Probabilities of a step, float64, that broadcast to (B, L).

    ``reveal`` is that of revealing a masked token, ``remask`` that of masking a visible one.
    """

    reveal: Tensor
    remask: Tensor


class RemaskRule(Protocol):
    """How sigma is chosen."""

    def rates(self, canvas: Canvas, clock: Clock) -> Rates:
        """Return the probabilities of a step; the last one masks nothing."""
        ...

    def time(self, clock: Clock) -> Tensor:
        """Return the time at which the mask rate is that of the step, a float64 scalar."""
        ...

    def is_over(self, clock: Clock) -> bool:
        """Return whether a row without masks never changes again, this step included."""
        ...


@dataclass(frozen=True)
class Remask(Policy):
    """Reveal masks at random, and mask visible tokens with probability sigma.

    Args:
        rule: How sigma is chosen; with sigma = 0 this is ``RandomOrder``, draw for draw.
    """

    revises = True

    rule: RemaskRule

    def time(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        return self.rule.time(clock).expand(len(canvas.ids)).to(canvas.ids.device)

    def settled(self, canvas: Canvas, clock: Clock) -> Tensor:
        over = self.rule.is_over(clock) | ~canvas.editable.any(1)
        return ~canvas.masked.any(1) & over

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        chance = rng.uniform("reveal", clock.step, canvas.ids.shape[1])
        return canvas.masked & (chance < self.rule.rates(canvas, clock).reveal)

    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        chance = rng.uniform("remask", clock.step, canvas.ids.shape[1])
        visible = canvas.editable & ~canvas.masked
        return Move(candidates, visible & (chance < self.rule.rates(canvas, clock).remask))


class _OnGrid:
    """Rules that follow the mask rate of the grid to its end."""

    def time(self, clock: Clock) -> Tensor:
        return clock.t

    def is_over(self, clock: Clock) -> bool:
        return clock.last


@dataclass(frozen=True)
class Capped(Options, _OnGrid):
    """sigma = min(eta, the largest possible)."""

    eta: float = with_default(ReMDMCap, "eta")

    def rates(self, canvas: Canvas, clock: Clock) -> Rates:
        return _rates(_shared(clock), torch.clamp_max(_largest(clock), self.eta))

    def is_over(self, clock: Clock) -> bool:
        return clock.last or self.eta == 0


@dataclass(frozen=True)
class Rescaled(Capped):
    """sigma = eta times the largest possible."""

    eta: float = with_default(ReMDMRescale, "eta")

    def rates(self, canvas: Canvas, clock: Clock) -> Rates:
        return _rates(_shared(clock), self.eta * _largest(clock))


@dataclass(frozen=True)
class NextRate(_OnGrid):
    """sigma = 1 - alpha_s: every token, old or new, is masked at the mask rate after the step.

    ``Renoise`` for a network that copies its input: visible tokens are not redrawn.
    """

    def rates(self, canvas: Canvas, clock: Clock) -> Rates:
        after = clock.process.schedule.mask_prob(clock.s)
        return _rates(_shared(clock), torch.minimum(after, _largest(clock)))


@dataclass(frozen=True)
class ForwardBackward(_OnGrid):
    """sigma = (alpha_s - alpha_t) / alpha_t, or the largest possible.

    As many tokens are masked again as the step would reveal, so the step reveals twice as many.

    Reference: Campbell et al. 2022, "A Continuous Time Framework for Discrete Denoising Models",
    arXiv:2205.14987 (the corrector); Wang et al. 2025, arXiv:2503.00307 (as a choice of sigma).
    """

    def rates(self, canvas: Canvas, clock: Clock) -> Rates:
        schedule = clock.process.schedule
        before, after = schedule.mask_prob(clock.t), schedule.mask_prob(clock.s)
        # Infinite where nothing is visible.
        sigma = (before - after) / (1 - before)
        return _rates(_shared(clock), torch.minimum(sigma, _largest(clock)))


@dataclass(frozen=True)
class LeastConfident(_OnGrid):
    r"""sigma of a visible token in proportion to exp(-confidence), with the largest sum possible.

        sigma_i = m softmax_i(-c_i),   m = min(1, (1 - alpha_s) / alpha_t)

    c_i is the probability that a token had when it was drawn, 1 for a given token. The softmax is
    over the visible tokens of a row that may change, so on average at most one token per step is
    masked. The paper's probability of revealing is for a single token and ignores what is masked
    elsewhere in the row, so the canvas would lag behind its time. Here a masked token is revealed
    with u(s, t) + m / (masked tokens), which compensates in every row; m is as large as possible.
    """

    def rates(self, canvas: Canvas, clock: Clock) -> Rates:
        visible = canvas.editable & ~canvas.masked
        masked = canvas.masked.sum(1, keepdim=True)
        reveal = clock.process.reveal_prob(clock.t, clock.s)
        confidence = clock.past.confidence.double().nan_to_num(1.0)
        weight = torch.exp(-confidence) * visible
        share = weight / weight.sum(1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
        mass = (masked * (1 - reveal)).clamp_max(float(_largest(clock)))
        mass = mass * visible.any(1, keepdim=True)
        return Rates((reveal + mass / masked.clamp_min(1)).clamp_max(1), mass * share)

    def is_over(self, clock: Clock) -> bool:
        # Without masks nothing can compensate for a token that is masked.
        return True


_inner = partial(option, read=real, low=0, high=1, above=True, below=True)


@dataclass(frozen=True)
class Loop(Options):
    r"""sigma = eta while the mask rate is constant, between two phases without remasking.

        alpha(t) = alpha_on (1 - t) / (1 - t_on)      for t_on < t: reveal
        alpha(t) = alpha_on                           for t_off < t <= t_on: mask and redraw
        alpha(t) = 1 - (1 - alpha_on) t / t_off       for t <= t_off: reveal the rest

    These rates replace those of the trained schedule. The network is conditioned on the time at
    which its own schedule has the rate of the step, which in the loop is not the time of the grid.

    Args:
        eta: sigma in the loop.
        begin: t_on.
        end: t_off.
        visible: alpha_on.
    """

    eta: float = with_default(ReMDMLoop, "eta")
    begin: float = _inner(0.55, "Time at which the loop begins.")
    end: float = _inner(0.05, "Time at which it ends.")
    visible: float = _inner(0.9, "Share of the tokens that are visible in it.")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            (f"begin = {self.begin}", self.end < self.begin, f"an end below it, not {self.end}")
        )

    def mask_prob(self, t: Tensor) -> Tensor:
        """Return 1 - alpha(t), float64, same shape as t."""
        first = 1 - self.visible * (1 - t) / (1 - self.begin)
        last = (1 - self.visible) * t / self.end
        still = torch.full_like(t, 1 - self.visible)
        return torch.where(t > self.begin, first, torch.where(t > self.end, still, last))

    def rates(self, canvas: Canvas, clock: Clock) -> Rates:
        before, after = self.mask_prob(clock.t), self.mask_prob(clock.s)
        inside = self.end < clock.t <= self.begin
        sigma = torch.clamp_max(_most(before, after, clock), self.eta) * inside
        return _rates((before, (before - after) / before), sigma)

    def time(self, clock: Clock) -> Tensor:
        return clock.process.schedule.inverse(1 - self.mask_prob(clock.t)).clamp(0, 1)

    def is_over(self, clock: Clock) -> bool:
        return clock.last or self.eta == 0 or bool(clock.t <= self.end)


def _shared(clock: Clock) -> tuple[Tensor, Tensor]:
    """Return the mask rate at t and the probability u(s, t), float64 scalars."""
    process = clock.process
    return process.schedule.mask_prob(clock.t), process.reveal_prob(clock.t, clock.s)


def _largest(clock: Clock) -> Tensor:
    """Return the largest sigma that the schedule allows, a float64 scalar; 0 in the last step."""
    schedule = clock.process.schedule
    return _most(schedule.mask_prob(clock.t), schedule.mask_prob(clock.s), clock)


def _most(before: Tensor, after: Tensor, clock: Clock) -> Tensor:
    if clock.last:
        # The mask rate of a schedule may end slightly above 0; a canvas must end without masks.
        return torch.zeros_like(after)
    # Where nothing is visible the quotient is infinite and the result 1.
    return torch.clamp_max(after / (1 - before), 1)


def _rates(shared: tuple[Tensor, Tensor], sigma: Tensor) -> Rates:
    masked, reveal = shared
    # At the largest sigma this is 1 up to rounding.
    return Rates((reveal + sigma * (1 - masked) / masked).clamp_max(1), sigma)

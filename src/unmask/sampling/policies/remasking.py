r"""Hiding visible tokens again by chance, so that a mistake can be undone.

Renoise    guess everything anew, then hide at the next mask rate
Remask     the reverse process with a chance sigma that a visible token is hidden again

With alpha_t, alpha_s the chances to be visible before and after a step, ``Remask`` goes back by

    visible    hidden with probability sigma
    masked     written with probability (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t)

so that as many tokens are visible at s as without it: the same trained network serves for every
sigma up to min(1, (1 - alpha_s) / alpha_t), where the second line reaches 1. A rule chooses sigma:

    Capped         a constant
    Rescaled       a share of the largest possible
    LeastSure      one token a step, likelier one that was written with little confidence
    Loop           a constant, in a stretch of time in which the mask rate stands still
    NextRate       the mask rate after the step: what is seen does not depend on the step before
    ForwardBackward   what the forward process would hide, were it to undo the step

Reference: Wang et al. 2025, "Remasking Discrete Diffusion Models with Inference-Time Scaling"
(ReMDM), arXiv:2503.00307, Section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from unmask.diffusion.rng import RowRng
from unmask.errors import UserError
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.base import Clock, Move, Policy, Prediction, grid_time
from unmask.sampling.samplers.remasking import ReMDMCap, ReMDMLoop, ReMDMRescale
from unmask.validation import Options, with_default


@dataclass(frozen=True)
class Renoise(Policy):
    """Guess everything anew, then hide each editable token with the next mask rate.

    Which tokens get hidden does not depend on the guesses, so it is decided first and guesses are
    made only for those that stay: the same distribution for less work.

    Reference: N. Barry 2025, "BERT is just a single text diffusion step".
    """

    revises = True

    def time(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        return grid_time(canvas, clock)

    def settled(self, canvas: Canvas, clock: Clock) -> Tensor:
        return ~canvas.editable.any(1)

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        chance = rng.uniform("renoise", clock.step, canvas.ids.shape[1])
        # A schedule may end slightly above a mask rate of 0; the canvas may not.
        stay = clock.last or chance >= clock.process.schedule.mask_prob(clock.s)
        return canvas.editable & stay

    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        return Move(candidates, canvas.editable & ~candidates)


class Rates(NamedTuple):
    """Chances of a step, float64, that broadcast to (B, L).

    ``reveal`` is that of a masked token to be written, ``hide`` that of a visible one to be hidden.
    """

    reveal: Tensor
    hide: Tensor


class Rule(Protocol):
    """How sigma is chosen."""

    def rates(self, canvas: Canvas, clock: Clock) -> Rates:
        """Return the chances of a step; nothing is hidden in the last one."""
        ...

    def time(self, clock: Clock) -> Tensor:
        """Return the time at which the mask rate is that of the step, a float64 scalar."""
        ...

    def is_over(self, clock: Clock) -> bool:
        """Return whether a row without masks will not be touched again, this step included."""
        ...


@dataclass(frozen=True)
class Remask(Policy):
    """Undo masks by chance, and now and then hide what was written.

    Args:
        rule: What sigma is; with sigma = 0 this is ``RandomOrder``, draw for draw.
    """

    revises = True

    rule: Rule

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
        return Move(candidates, visible & (chance < self.rule.rates(canvas, clock).hide))


class _OnGrid:
    """The mask rate is that of the grid, and only the end of it is the end."""

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
    """sigma = 1 - alpha_s: every token, old or new, is a mask with the mask rate after the step.

    ``Renoise`` for a network that copies what it sees: visible tokens are not guessed anew.
    """

    def rates(self, canvas: Canvas, clock: Clock) -> Rates:
        after = clock.process.schedule.mask_prob(clock.s)
        return _rates(_shared(clock), torch.minimum(after, _largest(clock)))


@dataclass(frozen=True)
class ForwardBackward(_OnGrid):
    """sigma = (alpha_s - alpha_t) / alpha_t, or the largest possible.

    As much is hidden again as the step reveals, and the step reveals twice as much for it.

    Reference: Campbell et al. 2022, "A Continuous Time Framework for Discrete Denoising Models",
    arXiv:2205.14987 (the corrector); Wang et al. 2025, arXiv:2503.00307 (as a choice of sigma).
    """

    def rates(self, canvas: Canvas, clock: Clock) -> Rates:
        schedule = clock.process.schedule
        before, after = schedule.mask_prob(clock.t), schedule.mask_prob(clock.s)
        # Infinite where nothing is visible yet.
        sigma = (before - after) / (1 - before)
        return _rates(_shared(clock), torch.minimum(sigma, _largest(clock)))


@dataclass(frozen=True)
class LeastSure(_OnGrid):
    r"""sigma of a visible token in proportion to exp(-confidence), in all the largest of a row.

        sigma_i = m softmax_i(-c_i),   m = min(1, (1 - alpha_s) / alpha_t)

    c_i is the probability that a token had when it was written, 1 for one that was given; the
    softmax is over the visible tokens of a row that may change, so at most one token a step is
    hidden on average. Printed for single tokens, the chance to write would not know of what is
    hidden elsewhere and the canvas would fall behind its time. Here a masked token is written with
    u(s, t) + m / (masked tokens), which makes up for it in every row; m is as large as that allows.
    """

    def rates(self, canvas: Canvas, clock: Clock) -> Rates:
        visible = canvas.editable & ~canvas.masked
        masked = canvas.masked.sum(1, keepdim=True)
        reveal = clock.process.reveal_prob(clock.t, clock.s)
        sure = clock.past.confidence.double().nan_to_num(1.0)
        weight = torch.exp(-sure) * visible
        share = weight / weight.sum(1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
        mass = (masked * (1 - reveal)).clamp_max(float(_largest(clock)))
        mass = mass * visible.any(1, keepdim=True)
        return Rates((reveal + mass / masked.clamp_min(1)).clamp_max(1), mass * share)

    def is_over(self, clock: Clock) -> bool:
        # Where nothing is left to write, nothing can make up for what is hidden.
        return True


@dataclass(frozen=True)
class Loop(Options):
    r"""sigma = eta while the mask rate stands still, between two stretches without hiding.

        alpha(t) = alpha_on (1 - t) / (1 - t_on)      for t_on < t: write
        alpha(t) = alpha_on                           for t_off < t <= t_on: hide and write anew
        alpha(t) = 1 - (1 - alpha_on) t / t_off       for t <= t_off: write the rest

    These rates replace those of the trained schedule. The network is told the time at which its own
    schedule has the rate of the step, which in the loop is not the time of the grid.

    Args:
        eta: sigma in the loop.
        begin: t_on.
        end: t_off.
        visible: alpha_on.
    """

    eta: float = with_default(ReMDMLoop, "eta")
    begin: float = 0.55
    end: float = 0.05
    visible: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.end < self.begin < 1 and 0 < self.visible < 1):
            raise UserError(
                "a loop needs 0 < end < begin < 1 and a visible share between 0 and 1, not "
                f"{self.end}, {self.begin} and {self.visible}"
            )

    def mask_prob(self, t: Tensor) -> Tensor:
        """Return 1 - alpha(t), float64, of the same shape."""
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
    """Return the mask rate at t and the chance u(s, t), float64 scalars."""
    process = clock.process
    return process.schedule.mask_prob(clock.t), process.reveal_prob(clock.t, clock.s)


def _largest(clock: Clock) -> Tensor:
    """Return the largest sigma that the schedule allows, a float64 scalar; 0 in the last step."""
    schedule = clock.process.schedule
    return _most(schedule.mask_prob(clock.t), schedule.mask_prob(clock.s), clock)


def _most(before: Tensor, after: Tensor, clock: Clock) -> Tensor:
    if clock.last:
        # A schedule may end slightly above a mask rate of 0; the canvas may not.
        return torch.zeros_like(after)
    # Where nothing is visible yet the quotient is infinite and the answer 1.
    return torch.clamp_max(after / (1 - before), 1)


def _rates(shared: tuple[Tensor, Tensor], sigma: Tensor) -> Rates:
    masked, reveal = shared
    # At the largest sigma this is 1, give or take its rounding.
    return Rates((reveal + sigma * (1 - masked) / masked).clamp_max(1), sigma)

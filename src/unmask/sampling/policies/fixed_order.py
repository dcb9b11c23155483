r"""Orders that do not depend on what the network says: at random, or from left to right.

They know before the network runs which masks they will write, so it is asked for those alone.

RandomOrder    each mask with the chance of the reverse process; a step may write any number
RandomQuota    a fixed number of masks a step
FirstHitting   one at a time, at the random time at which the reverse process would write it
LeftToRight    the leftmost masks
ByToken        random order if every token has a schedule of its own
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unmask.diffusion.rng import RowRng
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.base import (
    Clock,
    Move,
    Policy,
    Prediction,
    best,
    grid_time,
    quota,
)
from unmask.sampling.samplers.base import PacedSampler
from unmask.validation import Options, with_default


@dataclass(frozen=True)
class RandomOrder(Policy):
    """Reveal each masked token with probability u(s, t): exact ancestral sampling.

    Reference: Shi et al. 2024, arXiv:2406.04329, Section 2 (the reverse process).
    """

    def time(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        return grid_time(canvas, clock)

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        chance = rng.uniform("reveal", clock.step, canvas.ids.shape[1])
        return canvas.masked & (chance < clock.process.reveal_prob(clock.t, clock.s))

    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        return Move(candidates)


@dataclass(frozen=True)
class RandomQuota(Options, Policy):
    """Reveal a fixed number of masked tokens a step, in random order.

    Args:
        tokens_per_step: How many; None for what the time grid asks for, see ``quota``.

    Reference: Nie et al. 2025, arXiv:2502.09992 (random remasking).
    """

    tokens_per_step: int | None = with_default(PacedSampler, "tokens_per_step")

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        order = rng.uniform("hitting", 0, canvas.ids.shape[1])
        due = best(
            order.masked_fill(~canvas.masked, -1), quota(canvas, clock, self.tokens_per_step)
        )
        return due & canvas.masked

    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        return Move(candidates)


@dataclass(frozen=True)
class FirstHitting(RandomQuota):
    r"""Reveal one masked token a step, and tell the network the time at which that happens.

    Undoing masks in continuous time, position i turns visible when the mask rate falls to a number
    U_i that is uniform below the rate of t = 1. The next position is the one with the largest U_i
    still masked, and its time tau solves 1 - alpha(tau) = U_i. The steps are as many as masks and
    the law is that of infinitely many ancestral steps, with no grid.

    Args:
        tokens_per_step: So many at once, at the time of the first of them; above 1 their joint law
            is no longer exact. None for what the time grid asks for.

    Reference: Zheng et al. 2024, arXiv:2409.02908, Section 4. There the next rate is drawn as
    M u^(1/n) and then one of the n masks; the largest of n uniform numbers has that same law, and
    as numbers of the positions they need no state.
    """

    tokens_per_step: int | None = with_default(PacedSampler, "tokens_per_step", 1)

    def time(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        schedule = clock.process.schedule
        order = rng.uniform("hitting", 0, canvas.ids.shape[1])
        rate = order.masked_fill(~canvas.masked, 0).amax(1)
        return schedule.inverse(1 - rate * schedule.mask_prob(torch.ones_like(rate))).clamp(0, 1)


@dataclass(frozen=True)
class LeftToRight(Options, Policy):
    """Reveal the leftmost masked tokens: an encoder that writes like an autoregressive model.

    Args:
        tokens_per_step: How many; None for what the time grid asks for, see ``quota``.
    """

    tokens_per_step: int | None = with_default(PacedSampler, "tokens_per_step", 1)

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        due = quota(canvas, clock, self.tokens_per_step)
        return canvas.masked & (canvas.masked.cumsum(1) <= due[:, None])

    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        return Move(candidates)


@dataclass(frozen=True)
class ByToken(Policy):
    """Reveal a guess with the chance of its own token: ancestral sampling for token-wise schedules.

    Drawing the token first and revealing it with probability rho_v(s, t) has the law of the reverse
    process, p(z_s = v | [MASK]) = mu_v rho_v, without a draw among V + 1 outcomes.

    Reference: Shi et al. 2024, arXiv:2406.04329, Section 6 (state-dependent schedules).
    """

    asks_again: ClassVar[bool] = True

    def time(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        return grid_time(canvas, clock)

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        return canvas.masked

    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        # A learned schedule lies where its network does.
        t, s = (time.to(canvas.ids.device) for time in (clock.t, clock.s))
        chance = clock.process.reveal_prob(t, s).expand(len(canvas.ids), -1)
        own = chance.gather(1, prediction.tokens.clamp_max(chance.shape[1] - 1))
        reveal = candidates & (rng.uniform("reveal", clock.step, own.shape[1]) < own)
        return Move(reveal)

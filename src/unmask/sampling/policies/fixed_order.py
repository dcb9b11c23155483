r"""Orders of unmasking that do not depend on the network: random, or from left to right.

Their candidates are just the masks that a step reveals, so the network is queried there only; such
a policy derives from ``FixedOrder``.

RandomOrder    each mask with the probability of the reverse process; any number per step
RandomQuota    a fixed number of random masks per step
FirstHitting   one per step, at the random time at which the reverse process reveals it
LeftToRight    the leftmost masks
ByToken        random order with a schedule for every token
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


class FixedOrder(Policy):
    """Base of the policies that choose before the network runs: every candidate is revealed."""

    blind = True

    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        return Move(candidates)


@dataclass(frozen=True)
class RandomOrder(FixedOrder):
    """Reveal each masked token with probability u(s, t): exact ancestral sampling.

    Reference: Shi et al. 2024, arXiv:2406.04329, Section 2 (the reverse process).
    """

    def time(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        return grid_time(canvas, clock)

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        chance = rng.uniform("reveal", clock.step, canvas.ids.shape[1])
        return canvas.masked & (chance < clock.process.reveal_prob(clock.t, clock.s))


@dataclass(frozen=True)
class RandomQuota(Options, FixedOrder):
    """Reveal a fixed number of masked tokens per step, in random order.

    Args:
        tokens_per_step: How many; None for the number that the time grid gives, see ``quota``.

    Reference: Nie et al. 2025, arXiv:2502.09992 (random remasking).
    """

    tokens_per_step: int | None = with_default(PacedSampler, "tokens_per_step")

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        order = rng.uniform("hitting", 0, canvas.ids.shape[1])
        due = best(
            order.masked_fill(~canvas.masked, -1), quota(canvas, clock, self.tokens_per_step)
        )
        return due & canvas.masked


@dataclass(frozen=True)
class FirstHitting(RandomQuota):
    r"""Reveal one masked token per step, at the time at which the reverse process reveals it.

    In continuous time position i becomes visible when the mask rate falls to a number U_i, which is
    uniform below the rate of t = 1. The next position is the mask with the largest U_i, and its
    time tau solves 1 - alpha(tau) = U_i; the network is conditioned on tau. There are as many steps
    as masks, and the law is that of infinitely many ancestral steps.

    Args:
        tokens_per_step: Tokens revealed at the time of the first of them; above 1 their joint law
            is no longer exact. None for the number that the time grid gives.

    Reference: Zheng et al. 2024, arXiv:2409.02908, Section 4. There the next rate is drawn as
    M u^(1/n), then one of the n masks. The largest of n uniform numbers has the same law, and a
    number per position needs no state.
    """

    tokens_per_step: int | None = with_default(PacedSampler, "tokens_per_step", 1)

    def time(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        schedule = clock.process.schedule
        order = rng.uniform("hitting", 0, canvas.ids.shape[1])
        rate = order.masked_fill(~canvas.masked, 0).amax(1)
        return schedule.inverse(1 - rate * schedule.mask_prob(torch.ones_like(rate))).clamp(0, 1)


@dataclass(frozen=True)
class LeftToRight(Options, FixedOrder):
    """Reveal the leftmost masked tokens, as an autoregressive model does.

    Args:
        tokens_per_step: How many; None for the number that the time grid gives, see ``quota``.
    """

    tokens_per_step: int | None = with_default(PacedSampler, "tokens_per_step", 1)

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        due = quota(canvas, clock, self.tokens_per_step)
        return canvas.masked & (canvas.masked.cumsum(1) <= due[:, None])


@dataclass(frozen=True)
class ByToken(Policy):
    """Reveal each drawn token v with its own probability: ancestral sampling, per-token schedules.

    Drawing v first and revealing it with probability rho_v(s, t) has the law of the reverse
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
        # A learned schedule is on the device of its network.
        t, s = (time.to(canvas.ids.device) for time in (clock.t, clock.s))
        chance = clock.process.reveal_prob(t, s).expand(len(canvas.ids), -1)
        own = chance.gather(1, prediction.tokens.clamp_max(chance.shape[1] - 1))
        reveal = candidates & (rng.uniform("reveal", clock.step, own.shape[1]) < own)
        return Move(reveal)

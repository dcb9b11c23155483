r"""Which positions to reveal, and which to hide again.

A policy answers in two halves, because the network is only run where it is asked:

    candidates   which positions it needs a guess for, before the network runs
    choose       which of them are written now, after the guesses are known

Random order asks only for the positions that it is about to reveal; an order by confidence has to
ask for every masked one. Policies hold no state: what they need is on the canvas and the clock.

References: Shi et al. 2024, arXiv:2406.04329 (ancestral); Chang et al. 2022, "MaskGIT",
arXiv:2202.04200, and Nie et al. 2025, arXiv:2502.09992 (most confident first); Wu et al. 2025,
"Fast-dLLM", arXiv:2505.22618 (threshold); N. Barry 2025 (renoise, threshold).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from unmask.canvas import Canvas
from unmask.errors import UserError
from unmask.noise import Noise
from unmask.process import AbsorbingProcess


@dataclass(frozen=True)
class Clock:
    """Where a sampler stands.

    Attributes:
        step: Index of the step, from 0.
        t: Time before the step, a float64 scalar tensor.
        s: Time after it, s < t; 0 in the last step.
        process: The forward process that is being undone.
        last: Whether this is the last step, after which no mask may be left.
    """

    step: int
    t: Tensor
    s: Tensor
    process: AbsorbingProcess
    last: bool


class Move(NamedTuple):
    """Positions to write and positions to hide again, each (B, L), bool."""

    reveal: Tensor
    remask: Tensor


class Policy(Protocol):
    """How a sampler chooses positions."""

    @property
    def revises(self) -> bool:
        """True if visible tokens may change, so that a full canvas is not yet the end."""
        ...

    @property
    def follows_grid(self) -> bool:
        """True if the network is to be given the time of the grid, else the canvas's own time."""
        ...

    def candidates(self, canvas: Canvas, clock: Clock, noise: Noise) -> Tensor:
        """Return where a guess is needed, shape (B, L), bool."""
        ...

    def choose(self, canvas: Canvas, candidates: Tensor, confidence: Tensor, clock: Clock) -> Move:
        """Return what to write and what to hide.

        Args:
            canvas: The rows before the step.
            candidates: What the first half returned, shape (B, L), bool.
            confidence: Probability of the drawn token, shape (B, L); -inf where none was drawn.
            clock: Where the sampler stands.
        """
        ...


@dataclass(frozen=True)
class RandomOrder:
    """Reveal each masked token with probability u(s, t): exact ancestral sampling.

    Reference: Shi et al. 2024, arXiv:2406.04329, Section 2 (the reverse process).
    """

    revises: bool = False
    follows_grid: bool = True

    def candidates(self, canvas: Canvas, clock: Clock, noise: Noise) -> Tensor:
        chance = noise.uniform("reveal", clock.step, canvas.ids.shape[1])
        return canvas.masked & (chance < clock.process.reveal_prob(clock.t, clock.s))

    def choose(self, canvas: Canvas, candidates: Tensor, confidence: Tensor, clock: Clock) -> Move:
        return Move(candidates, torch.zeros_like(candidates))


@dataclass(frozen=True)
class Renoise:
    """Guess everything anew, then hide each editable token with the next mask rate.

    Which tokens get hidden does not depend on the guesses, so it is decided first and guesses are
    made only for those that stay: the same distribution for less work.

    Reference: N. Barry 2025, "BERT is just a single text diffusion step".
    """

    revises: bool = True
    follows_grid: bool = True

    def candidates(self, canvas: Canvas, clock: Clock, noise: Noise) -> Tensor:
        chance = noise.uniform("renoise", clock.step, canvas.ids.shape[1])
        # A schedule may end slightly above a mask rate of 0; the canvas may not.
        stay = clock.last or chance >= clock.process.schedule.mask_prob(clock.s)
        return canvas.editable & stay

    def choose(self, canvas: Canvas, candidates: Tensor, confidence: Tensor, clock: Clock) -> Move:
        return Move(candidates, canvas.editable & ~candidates)


@dataclass(frozen=True)
class MostConfident:
    """Reveal the guesses that the network is most sure of.

    Args:
        threshold: Every guess of at least this probability is revealed; None for none beyond the
            quota.
        paced: True reveals the quota of the time grid in every step (with a fixed number of steps
            the same count, give or take one); False only makes sure that something is revealed and
            that the last step leaves no mask.

    Reference: Nie et al. 2025, arXiv:2502.09992 (quota); Wu et al. 2025, arXiv:2505.22618, and N.
    Barry's repository (threshold, else the single most confident).
    """

    threshold: float | None = None
    paced: bool = True
    revises: bool = False
    follows_grid: bool = False

    def __post_init__(self) -> None:
        if self.threshold is not None and not self.threshold >= 0:
            raise UserError(f"the confidence threshold must be from 0 up, not {self.threshold}")

    def candidates(self, canvas: Canvas, clock: Clock, noise: Noise) -> Tensor:
        return canvas.masked

    def choose(self, canvas: Canvas, candidates: Tensor, confidence: Tensor, clock: Clock) -> Move:
        quota = self._quota(canvas.masked.sum(1), clock)
        rank = confidence.argsort(dim=1, descending=True, stable=True).argsort(1)
        reveal = rank < quota[:, None]
        if self.threshold is not None:
            reveal |= confidence >= self.threshold
        return Move(reveal & candidates, torch.zeros_like(candidates))

    def _quota(self, remaining: Tensor, clock: Clock) -> Tensor:
        if clock.last:
            return remaining
        if not self.paced:
            return remaining.clamp_max(1)
        left = remaining * (1 - clock.process.reveal_prob(clock.t, clock.s))
        # The small term keeps a product such as 3 * (2 / 3) from falling below its integer.
        return remaining - torch.floor(left + 1e-9).long()

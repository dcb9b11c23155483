r"""Schedules given by a table: those of D3PM, which are defined on a grid of T steps.

A chain of T steps leaves a token alone with probability 1 - b_j in step j, so that

    alpha(j / T) = (1 - b_1) (1 - b_2) ... (1 - b_j),

and alpha is linear between two points of the grid. That makes every such chain a ``Schedule``, for
absorbing and for uniform noise, with any number of steps at sampling time. This file knows neither
processes nor networks.

Reference: Austin et al. 2021, "Structured Denoising Diffusion Models in Discrete State-Spaces"
(D3PM), arXiv:2107.03006, Appendix A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.errors import UserError


@dataclass(frozen=True, eq=False)
class Tabulated:
    """A schedule that is linear between the points j / T of a grid.

    Args:
        visible: alpha at the grid, shape (T + 1,), float64, from 1 down.
        hidden: 1 - alpha at the grid, from its own closed form, so that both ends keep their
            digits.
    """

    visible: Tensor
    hidden: Tensor

    @classmethod
    def from_betas(cls, betas: Tensor) -> Tabulated:
        """Build the schedule of a chain whose step j replaces a token with probability b_j.

        Args:
            betas: Shape (T,), each in [0, 1].
        """
        if betas.ndim != 1 or not bool(((betas >= 0) & (betas <= 1)).all()) or not betas.numel():
            raise UserError("a chain needs a list of step probabilities between 0 and 1")
        log_visible = torch.log1p(-betas.double()).cumsum(0)
        start = log_visible.new_zeros(1)
        log_visible = torch.cat([start, log_visible])
        return cls(log_visible.exp(), -torch.expm1(log_visible))

    @property
    def num_steps(self) -> int:
        """Number of intervals of the grid, T."""
        return len(self.visible) - 1

    def _interval(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the interval (j, j + 1] that t lies in, and the share of it that has passed."""
        place = t.double() * self.num_steps
        left = place.ceil().long().clamp(1, self.num_steps) - 1
        return left, place - left

    def _read(self, table: Tensor, t: Tensor) -> Tensor:
        left, share = self._interval(t)
        table = table.to(t.device)
        return torch.lerp(table[left], table[left + 1], share).to(t.dtype)

    def alpha(self, t: Tensor) -> Tensor:
        return self._read(self.visible, t)

    def mask_prob(self, t: Tensor) -> Tensor:
        return self._read(self.hidden, t)

    def dalpha(self, t: Tensor) -> Tensor:
        # At a point of the grid the slope to its left, as t lies in (0, 1].
        left, _ = self._interval(t)
        return (self.visible.to(t.device).diff() * self.num_steps)[left].to(t.dtype)

    def inverse(self, alpha: Tensor) -> Tensor:
        visible = self.visible.to(alpha.device)
        # The first point at which no more than alpha is visible ends the interval.
        right = torch.searchsorted(-visible, -alpha.double().contiguous()).clamp(1, self.num_steps)
        share = (visible[right - 1] - alpha) / (visible[right - 1] - visible[right])
        return ((right - 1 + share.clamp(0, 1)) / self.num_steps).to(alpha.dtype)


def gaussian_betas(num_steps: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Return step sizes that grow linearly, shape (num_steps,), float64.

    The defaults are D3PM's for discretised Gaussian noise; 0.02 to 1 are those for uniform noise on
    pixels (``Tabulated.from_betas``).
    """
    return torch.linspace(first, last, num_steps, dtype=torch.float64)


def d3pm_cosine(num_steps: int) -> Tabulated:
    """Return D3PM's cosine schedule, b_j = min(1 - f(j) / f(j - 1), 0.999).

        f(j) = cos((j / T + 0.008) / 1.008 * pi / 2)

    Not squared, unlike the schedule of the same name for continuous diffusion.

    Reference: Austin et al. 2021, arXiv:2107.03006, Appendix A.2, in the authors' implementation.
    """
    share = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    f = torch.cos((share + 0.008) / 1.008 * math.pi / 2)
    return Tabulated.from_betas((1 - f[1:] / f[:-1]).clamp_max(0.999))


def mutual_information(unigram: Tensor, num_steps: int) -> Tabulated:
    """Return the schedule under which uniform noise forgets a token at an even pace.

        I(x_t; x_0) / H(x_0) = 1 - t    at every point of the grid

    For absorbing noise the same rule gives alpha(t) = 1 - t for any data: the linear schedule.

    Args:
        unigram: How often each of the K data ids occurs, shape (K,), counts or probabilities.
        num_steps: T, the intervals of the grid.

    Raises:
        UserError: If the frequencies are negative or a single id has them all.

    Reference: Austin et al. 2021, arXiv:2107.03006, Section 3.2.
    """
    unigram = unigram.double().cpu()
    if unigram.ndim != 1 or bool((unigram < 0).any()) or int((unigram > 0).sum()) < 2:
        raise UserError("this schedule needs the frequencies of at least two different tokens")
    # Most words of a text share their count with many others.
    probs, count = (unigram / unigram.sum()).unique(return_counts=True)
    goal = 1 - torch.arange(1, num_steps, dtype=torch.float64) / num_steps
    full = _information(probs, count, torch.zeros(1, dtype=torch.float64))
    low, high = torch.zeros_like(goal), torch.ones_like(goal)
    for _ in range(60):  # one binary digit each
        middle = (low + high) / 2
        too_clean = _information(probs, count, middle) > goal * full
        low, high = torch.where(too_clean, middle, low), torch.where(too_clean, high, middle)
    hidden = torch.cat([goal.new_zeros(1), high, goal.new_ones(1)])
    return Tabulated(1 - hidden, hidden)


def _information(probs: Tensor, count: Tensor, hidden: Tensor) -> Tensor:
    """Return I(x_t; x_0) in nats when a token is redrawn uniformly with probability ``hidden``.

    Args:
        probs: The different probabilities of x_0, shape (C,), float64.
        count: How many ids have each, shape (C,).
        hidden: Shape (M,), float64.
    """
    size = int(count.sum())
    floor = hidden / size
    stay = 1 - hidden + floor
    marginal = (1 - hidden)[:, None] * probs + floor[:, None]
    given = torch.xlogy(stay, stay) + (size - 1) * torch.xlogy(floor, floor)
    return given - (torch.xlogy(marginal, marginal) * count).sum(1)

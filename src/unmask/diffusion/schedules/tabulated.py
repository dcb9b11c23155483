r"""Tabulated noise schedules: those of D3PM, which are defined on a grid of T steps.

A chain of T steps keeps a token with probability 1 - b_j in step j, so

    alpha(j / T) = (1 - b_1) (1 - b_2) ... (1 - b_j),

and alpha is linear between the points of the grid. Every such chain is thus a ``Schedule``, for
absorbing and for uniform noise, with any number of steps at sampling time.

``LinearBeta`` has the step sizes of discretised Gaussian noise. It is no ``Schedule``: values move
to near values, so there is no probability to be replaced.

Reference: Austin et al. 2021, "Structured Denoising Diffusion Models in Discrete State-Spaces"
(D3PM), arXiv:2107.03006, Appendix A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.errors import UserError
from unmask.validation import Options, option, real

# Least sum of the mean squared moves of all steps, as a share of the squared range. In many small
# steps the slowest mode of a random walk between walls falls to exp(-pi^2 / 2 * sum): here 8 %, or
# a prior term below 0.01 nats per value. In 3 large steps the prior term is up to 0.3 nats.
_LEAST_SPREAD = 0.5


@dataclass(frozen=True, eq=False)
class Tabulated:
    """A schedule that is linear between the points j / T of a grid.

    Args:
        visible: alpha on the grid, shape (T + 1,), float64, from 1 down.
        masked: 1 - alpha on the grid, from its own closed form, which is accurate at both ends.
    """

    visible: Tensor
    masked: Tensor

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
        """Return the index of the interval (j, j + 1] of t, and the position of t in it, 0 to 1."""
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
        return self._read(self.masked, t)

    def dalpha(self, t: Tensor) -> Tensor:
        # At a point of the grid the slope is that to its left, because t is in (0, 1].
        left, _ = self._interval(t)
        return (self.visible.to(t.device).diff() * self.num_steps)[left].to(t.dtype)

    def inverse(self, alpha: Tensor) -> Tensor:
        visible = self.visible.to(alpha.device)
        # The interval ends at the first point with at most alpha visible.
        right = torch.searchsorted(-visible, -alpha.double().contiguous()).clamp(1, self.num_steps)
        share = (visible[right - 1] - alpha) / (visible[right - 1] - visible[right])
        return ((right - 1 + share.clamp(0, 1)) / self.num_steps).to(alpha.dtype)


def gaussian_betas(num_steps: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Return step sizes that grow linearly, shape (num_steps,), float64.

    The defaults are D3PM's for 1000 steps of discretised Gaussian noise, see ``LinearBeta``; 0.02
    to 1 are those for uniform noise on pixels (``Tabulated.from_betas``).
    """
    return torch.linspace(first, last, num_steps, dtype=torch.float64)


@dataclass(frozen=True)
class LinearBeta(Options):
    """The step sizes of discretised Gaussian noise over T steps: D3PM's, scaled by 1000 / T.

        b_j = 1000 / T * (first + (last - first) (j - 1) / (T - 1)),    j = 1..T

    In units of the whole range a step of size b moves a value by b / 8 in the mean square, if that
    is at least about one level. The scale keeps the sum of the steps, so values are pure noise at
    t = 1 whatever T is. What is left is the prior term of the bound: with the defaults and 256
    levels at most 5e-6 nats per value for T = 1000, 2e-5 for T = 50 and 2e-3 for T = 10.

    Reference: Austin et al. 2021, arXiv:2107.03006, Appendix A.2.3 and B.2 (the defaults).
    """

    first: float = option(1e-4, "b of the first of 1000 steps.", real, low=0, above=True)
    last: float = option(0.02, "b of the last of 1000 steps.", real, low=0, above=True)

    def betas(self, num_steps: int, levels: int) -> Tensor:
        """Return the step sizes b of T steps, shape (num_steps,), float64.

        Raises:
            UserError: If a value of so many levels is not yet noise after the last step. Steps that
                are much smaller than a level hardly ever change it, so few levels need few steps.
        """
        scale = 1000 / num_steps
        betas = gaussian_betas(num_steps, scale * self.first, scale * self.last)
        move = torch.arange(-(levels - 1), levels, dtype=torch.float64) / (levels - 1)
        weight = torch.softmax(-4 * move.square() / betas[:, None], 1)
        if float((weight @ move.square()).sum()) < _LEAST_SPREAD:
            raise UserError(
                f"{num_steps} steps of this noise do not hide which of {levels} levels a value has;"
                " change the number of steps or take a larger first and last of the schedule"
            )
        return betas


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
    """Return the schedule under which uniform noise loses information about a token linearly.

        I(x_t; x_0) / H(x_0) = 1 - t    at every point of the grid

    For absorbing noise the same rule gives alpha(t) = 1 - t for any data: the linear schedule.

    Args:
        unigram: Counts or probabilities of the K data ids, shape (K,).
        num_steps: T, the number of intervals of the grid.

    Raises:
        UserError: If a frequency is negative or fewer than two are positive.

    Reference: Austin et al. 2021, arXiv:2107.03006, Section 3.2.
    """
    unigram = unigram.double().cpu()
    if unigram.ndim != 1 or bool((unigram < 0).any()) or int((unigram > 0).sum()) < 2:
        raise UserError("this schedule needs the frequencies of at least two different tokens")
    # Most ids share their count with many others.
    probs, count = (unigram / unigram.sum()).unique(return_counts=True)
    goal = 1 - torch.arange(1, num_steps, dtype=torch.float64) / num_steps
    full = _information(probs, count, torch.zeros(1, dtype=torch.float64))
    low, high = torch.zeros_like(goal), torch.ones_like(goal)
    for _ in range(60):  # one bit each
        middle = (low + high) / 2
        too_clean = _information(probs, count, middle) > goal * full
        low, high = torch.where(too_clean, middle, low), torch.where(too_clean, high, middle)
    masked = torch.cat([goal.new_zeros(1), high, goal.new_ones(1)])
    return Tabulated(1 - masked, masked)


def _information(probs: Tensor, count: Tensor, redrawn: Tensor) -> Tensor:
    """Return I(x_t; x_0) in nats if a token is redrawn uniformly with probability ``redrawn``.

    Args:
        probs: The distinct probabilities of x_0, shape (C,), float64.
        count: Number of ids with each, shape (C,).
        redrawn: Shape (M,), float64.
    """
    size = int(count.sum())
    floor = redrawn / size
    stay = 1 - redrawn + floor
    marginal = (1 - redrawn)[:, None] * probs + floor[:, None]
    given = torch.xlogy(stay, stay) + (size - 1) * torch.xlogy(floor, floor)
    return given - (torch.xlogy(marginal, marginal) * count).sum(1)

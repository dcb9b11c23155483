r"""Continuous noise schedules alpha(t), the probability that a token is still visible at time t.

A schedule is a pure function of t in [0, 1], where 0 is clean text and 1 is all masks:

    alpha(t) = P(token still visible at t),    alpha(0) = 1,  alpha(1) = 0,  decreasing.

Every schedule has its own closed form of ``1 - alpha`` (``mask_prob``), because the difference of
two nearly equal floats has no correct digits near t = 0, where the weight of the bound is largest.

References: Shi et al. 2024, "Simplified and Generalized Masked Diffusion", arXiv:2406.04329,
Table 4; Sahoo et al. 2024, "Simple and Effective Masked Diffusion", arXiv:2406.07524.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from unmask.errors import UserError
from unmask.validation import Options, one_of, option, read_options, real, require


@runtime_checkable
class Schedule(Protocol):
    """The contract of a schedule. All tensors are floating point, any shape."""

    def alpha(self, t: Tensor) -> Tensor:
        """Return P(token still visible at time t)."""
        ...

    def mask_prob(self, t: Tensor) -> Tensor:
        """Return 1 - alpha(t) from its own closed form."""
        ...

    def dalpha(self, t: Tensor) -> Tensor:
        """Return the derivative of alpha with respect to t (never positive)."""
        ...

    def inverse(self, alpha: Tensor) -> Tensor:
        """Return the time t at which P(token still visible) equals alpha."""
        ...


def rate(schedule: Schedule, t: Tensor) -> Tensor:
    """Return -alpha'(t) / (1 - alpha(t)), the weight of the bound per unit of t."""
    return -schedule.dalpha(t) / schedule.mask_prob(t)


@dataclass(frozen=True)
class Polynomial(Options):
    """alpha(t) = 1 - t^w. With w = 1 the linear schedule, whose weight is 1 / t."""

    exponent: float = option(1.0, "w.", real, low=0, above=True)

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t**self.exponent

    def mask_prob(self, t: Tensor) -> Tensor:
        return t**self.exponent

    def dalpha(self, t: Tensor) -> Tensor:
        return -self.exponent * t ** (self.exponent - 1)

    def inverse(self, alpha: Tensor) -> Tensor:
        return (1 - alpha) ** (1 / self.exponent)


@dataclass(frozen=True)
class Cosine(Options):
    """alpha(t) = 1 - cos(pi/2 (1 - t)): flat near t = 1, so the first steps reveal few tokens."""

    def alpha(self, t: Tensor) -> Tensor:
        # 1 - cos(x) = 2 sin(x/2)^2 keeps its digits where alpha is small.
        return 2 * torch.sin(math.pi / 4 * (1 - t)) ** 2

    def mask_prob(self, t: Tensor) -> Tensor:
        # cos(pi/2 (1 - t)) = sin(pi/2 t), which keeps its digits at t -> 0.
        return torch.sin(math.pi / 2 * t)

    def dalpha(self, t: Tensor) -> Tensor:
        return -math.pi / 2 * torch.cos(math.pi / 2 * t)

    def inverse(self, alpha: Tensor) -> Tensor:
        return 1 - 4 / math.pi * torch.asin(torch.sqrt(alpha / 2))


@dataclass(frozen=True)
class Geometric(Options):
    """alpha(t) = exp(-b(t)) with b(t) = b_min^(1-t) b_max^t.

    alpha(0) = exp(-b_min) and alpha(1) = exp(-b_max) miss 1 and 0 by 1e-5 and 2e-9 at the defaults:
    the share of the bound that lies outside the schedule's range is the reconstruction term.
    """

    b_min: float = option(1e-5, "b at time 0.", real, low=0, above=True)
    b_max: float = option(20.0, "b at time 1.", real, low=0, above=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require((f"b_min = {self.b_min}", self.b_min < self.b_max, "a larger b_max"))

    def _b(self, t: Tensor) -> Tensor:
        return torch.exp(math.log(self.b_min) * (1 - t) + math.log(self.b_max) * t)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-self._b(t))

    def mask_prob(self, t: Tensor) -> Tensor:
        return -torch.expm1(-self._b(t))

    def dalpha(self, t: Tensor) -> Tensor:
        b = self._b(t)
        return -b * math.log(self.b_max / self.b_min) * torch.exp(-b)

    def inverse(self, alpha: Tensor) -> Tensor:
        log_b = torch.log(-torch.log(alpha))
        t = (log_b - math.log(self.b_min)) / math.log(self.b_max / self.b_min)
        # Values outside the range of the schedule, such as alpha = 0, map to its ends.
        return t.clamp(0, 1)


@dataclass(frozen=True)
class LogLinear(Options):
    """alpha(t) = 1 - (1 - eps) t, of which -log alpha is the total noise: MDLM's schedule.

    It ends at alpha(1) = eps; the tokens still visible there give the prior term of the bound.

    Reference: Sahoo et al. 2024, arXiv:2406.07524, Appendix E.1 (log-linear).
    """

    eps: float = option(1e-3, "alpha at time 1.", real, low=0, high=1, below=True)

    def alpha(self, t: Tensor) -> Tensor:
        # (1 - t) + eps t keeps its digits where t is near 1.
        return (1 - t) + self.eps * t

    def mask_prob(self, t: Tensor) -> Tensor:
        return (1 - self.eps) * t

    def dalpha(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.eps - 1)

    def inverse(self, alpha: Tensor) -> Tensor:
        return ((1 - alpha) / (1 - self.eps)).clamp(0, 1)


@dataclass(frozen=True)
class FromMasks:
    """The schedule of a sampler that starts from masks alone: m(t) / m(1), with m = 1 - alpha.

    The rate is that of the inner schedule, but there is no prior term: with alpha(1) > 0 the bound
    of the inner schedule has one, for the tokens that are visible at t = 1.

    Args:
        inner: The schedule.
    """

    inner: Schedule

    def _last(self, t: Tensor) -> Tensor:
        return self.inner.mask_prob(torch.ones_like(t))

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - self.mask_prob(t)

    def mask_prob(self, t: Tensor) -> Tensor:
        return self.inner.mask_prob(t) / self._last(t)

    def dalpha(self, t: Tensor) -> Tensor:
        return self.inner.dalpha(t) / self._last(t)

    def inverse(self, alpha: Tensor) -> Tensor:
        return self.inner.inverse(1 - (1 - alpha) * self._last(alpha))


SCHEDULES: dict[str, type[Any]] = {
    "linear": Polynomial,
    "polynomial": Polynomial,
    "cosine": Cosine,
    "geometric": Geometric,
    "log-linear": LogLinear,
}


def make_schedule(name: str, **parameters: float) -> Schedule:
    """Build a schedule by name.

    Args:
        name: A key of ``SCHEDULES``.
        parameters: Constructor arguments, such as ``exponent`` for ``polynomial``.

    Raises:
        UserError: If the name is unknown or a parameter does not belong to it.
    """
    one_of("schedule", name, SCHEDULES)
    if name == "linear" and parameters:
        raise UserError("the linear schedule takes no parameters; use 'polynomial' for an exponent")
    kind = SCHEDULES[name]
    schedule: Schedule = kind(**read_options(kind.options(), parameters, f"{name} schedule"))
    return schedule

"""Samplers whose order does not depend on the network; see ``policies.fixed_order``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from unmask.sampling.samplers.base import GridSampler, PacedSampler, Sampler
from unmask.validation import with_default

if TYPE_CHECKING:
    from unmask.sampling.policies.base import Policy


@dataclass(frozen=True, kw_only=True)
class Ancestral(GridSampler):
    """Reveal each masked token with the probability of the exact reverse process."""

    name: ClassVar[str] = "ancestral"
    steps: int | None = with_default(Sampler, "steps", 64)
    grid: str | tuple[float, ...] = with_default(GridSampler, "grid", "cosine")

    @cached_property
    def policy(self) -> Policy:
        from unmask.sampling.policies.fixed_order import RandomOrder

        return RandomOrder()


@dataclass(frozen=True, kw_only=True)
class Random(PacedSampler):
    """Reveal a fixed share of the masks per step, in random order."""

    name: ClassVar[str] = "random"
    steps: int | None = with_default(Sampler, "steps", 64)

    @cached_property
    def policy(self) -> Policy:
        from unmask.sampling.policies.fixed_order import RandomQuota

        return RandomQuota(self.pace)


@dataclass(frozen=True, kw_only=True)
class FirstHitting(PacedSampler):
    """Reveal one mask per step, at the random time of the exact reverse process."""

    name: ClassVar[str] = "first-hitting"

    @cached_property
    def policy(self) -> Policy:
        from unmask.sampling.policies import fixed_order

        return fixed_order.FirstHitting(self.pace)


@dataclass(frozen=True, kw_only=True)
class LeftToRight(PacedSampler):
    """Reveal the leftmost mask."""

    name: ClassVar[str] = "left-to-right"

    @cached_property
    def policy(self) -> Policy:
        from unmask.sampling.policies import fixed_order

        return fixed_order.LeftToRight(self.pace)

"""Samplers that mask tokens again; see ``policies.remasking`` and ``policies.self_correction``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from unmask.sampling.samplers.base import GridSampler, Sampler
from unmask.validation import option, real, with_default

if TYPE_CHECKING:
    from unmask.sampling.policies.base import Policy
    from unmask.sampling.policies.remasking import RemaskRule

ETA = (
    "How much is masked again: chance of a visible token per step (remdm-cap, remdm-loop), share "
    "of the largest possible (remdm-rescale), weight of old tokens (p2)."
)


@dataclass(frozen=True, kw_only=True)
class Refine(GridSampler):
    """Predict every token anew, then mask each again with the next mask rate."""

    name: ClassVar[str] = "refine"
    steps: int | None = with_default(Sampler, "steps", 10)
    top_k: int | None = with_default(Sampler, "top_k", 50)
    top_p: float = with_default(Sampler, "top_p", 0.95)

    @cached_property
    def policy(self) -> Policy:
        from unmask.sampling.policies.remasking import Renoise

        return Renoise()


@dataclass(frozen=True, kw_only=True)
class RemaskingSampler(GridSampler):
    """Base of the samplers that mask visible tokens again by chance, as ReMDM does."""

    steps: int | None = with_default(Sampler, "steps", 128)
    top_p: float = with_default(Sampler, "top_p", 0.9)

    @cached_property
    def policy(self) -> Policy:
        from unmask.sampling.policies.remasking import Remask

        return Remask(self.rule)

    @property
    def rule(self) -> RemaskRule:
        """How the chance to be masked again is chosen."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ReMDMCap(RemaskingSampler):
    """As ancestral, and mask each visible token again with probability eta."""

    name: ClassVar[str] = "remdm-cap"
    eta: float = option(0.008, ETA, real, low=0, high=1, unit="a chance to be masked again")

    @property
    def rule(self) -> RemaskRule:
        from unmask.sampling.policies.remasking import Capped

        return Capped(self.eta)


@dataclass(frozen=True, kw_only=True)
class ReMDMRescale(RemaskingSampler):
    """The same with eta times the largest possible probability."""

    name: ClassVar[str] = "remdm-rescale"
    eta: float = with_default(ReMDMCap, "eta", 0.015, unit="a share of the largest chance")

    @property
    def rule(self) -> RemaskRule:
        from unmask.sampling.policies.remasking import Rescaled

        return Rescaled(self.eta)


@dataclass(frozen=True, kw_only=True)
class ReMDMConf(RemaskingSampler):
    """The same, one token per step on average, sooner those of low confidence."""

    name: ClassVar[str] = "remdm-conf"

    @property
    def rule(self) -> RemaskRule:
        from unmask.sampling.policies.remasking import LeastConfident

        return LeastConfident()


@dataclass(frozen=True, kw_only=True)
class ReMDMLoop(RemaskingSampler):
    """Reveal 90 %, then mask again a share eta per step and reveal as many, then the rest."""

    name: ClassVar[str] = "remdm-loop"
    eta: float = with_default(ReMDMCap, "eta", 0.02)

    @property
    def rule(self) -> RemaskRule:
        from unmask.sampling.policies.remasking import Loop

        return Loop(self.eta)


@dataclass(frozen=True, kw_only=True)
class ReMDMNextRate(RemaskingSampler):
    """Mask every token, old or new, with the next mask rate."""

    name: ClassVar[str] = "remdm-next-rate"
    steps: int | None = with_default(Sampler, "steps", 10)
    top_k: int | None = with_default(Sampler, "top_k", 50)
    top_p: float = with_default(Sampler, "top_p", 0.95)

    @property
    def rule(self) -> RemaskRule:
        from unmask.sampling.policies.remasking import NextRate

        return NextRate()


@dataclass(frozen=True, kw_only=True)
class ForwardBackward(RemaskingSampler):
    """As ancestral, and mask again as many as the step reveals."""

    name: ClassVar[str] = "forward-backward"

    @property
    def rule(self) -> RemaskRule:
        from unmask.sampling.policies import remasking

        return remasking.ForwardBackward()


@dataclass(frozen=True, kw_only=True)
class P2(GridSampler):
    """Predict every mask; of all tokens, old and new, the least likely are masked again."""

    name: ClassVar[str] = "p2"
    steps: int | None = with_default(Sampler, "steps", 64)
    eta: float = option(1.0, ETA, real, low=0)

    @cached_property
    def policy(self) -> Policy:
        from unmask.sampling.policies.self_correction import Planned

        return Planned(self.eta)

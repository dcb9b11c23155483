"""Samplers that reveal the most confident predictions first; see ``policies.confidence``."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from unmask.sampling.samplers.base import METRICS, PacedSampler, Sampler
from unmask.validation import exclude, option, real, with_default, word

if TYPE_CHECKING:
    from unmask.sampling.policies.base import Policy
    from unmask.sampling.policies.confidence import MostConfident, RevealRule


@dataclass(frozen=True, kw_only=True)
class ConfidenceSampler(PacedSampler):
    """Base of the samplers that reveal the most confident predictions first."""

    confidence_metric: str = option(
        "confidence",
        "How positions are ranked: probability of the drawn token after temperature and filters "
        "(drawn) or before them (confidence), lead over the second token (margin), or entropy.",
        word,
        choices=METRICS,
    )

    def check(self, given: Collection[str]) -> None:
        """Raise a UserError if options contradict each other; see ``Sampler.check``."""
        idle = self.greedy and self.confidence_metric != "drawn"
        clash = "temperature" in given and self.temperature and idle
        metric = f"confidence_metric = {self.confidence_metric!r}"
        exclude(("temperature", clash, f"{metric}, which is at temperature 1 in {self.name!r}"))
        super().check(given)

    def order(self, rule: RevealRule | None, alg_temperature: float | None = None) -> MostConfident:
        """Return the policy that also reveals what a rule allows."""
        from unmask.sampling.policies.confidence import MostConfident

        return MostConfident(self.confidence_metric, self.pace, rule, alg_temperature)


@dataclass(frozen=True, kw_only=True)
class Threshold(ConfidenceSampler):
    """Reveal every prediction of at least a confidence, or else the most confident one."""

    name: ClassVar[str] = "threshold"
    greedy: ClassVar[bool] = True
    temperature: float = with_default(Sampler, "temperature", 0.8)
    confidence_metric: str = with_default(ConfidenceSampler, "confidence_metric", "drawn")
    threshold: float = option(
        0.9,
        "Reveal every token of at least this confidence; at least one.",
        real,
        low=0,
        high=math.inf,
        unit="in nats",
    )

    @cached_property
    def policy(self) -> Policy:
        from unmask.sampling.policies import confidence

        return self.order(confidence.Threshold(self.threshold))


@dataclass(frozen=True, kw_only=True)
class MaskGIT(ConfidenceSampler):
    """Reveal a fixed share of the masks per step, the most confident predictions first."""

    name: ClassVar[str] = "maskgit"
    steps: int | None = with_default(Sampler, "steps", 32)
    confidence_metric: str = with_default(ConfidenceSampler, "confidence_metric", "drawn")
    # Far above the limit, noise would leave the range of its numbers.
    alg_temperature: float | None = option(
        None,
        "Draw positions in proportion to exp(confidence / alg_temperature); 0 takes the most "
        "confident ones.",
        real,
        low=0,
        high=1_000_000,
    )

    @cached_property
    def policy(self) -> Policy:
        return self.order(None, self.alg_temperature)


@dataclass(frozen=True, kw_only=True)
class FastDLLMFactor(ConfidenceSampler):
    """Reveal the n most confident predictions, n the largest with (n + 1)(1 - c_n) < factor."""

    name: ClassVar[str] = "fast-dllm-factor"
    greedy: ClassVar[bool] = True
    factor: float = option(
        1.0,
        "Reveal the n most confident tokens, (n + 1)(1 - c_n) < factor.",
        real,
        low=0,
        high=math.inf,
        unit="in nats",
    )

    @cached_property
    def policy(self) -> Policy:
        from unmask.sampling.policies.confidence import Factor

        return self.order(Factor(self.factor))


@dataclass(frozen=True, kw_only=True)
class EntropyBound(ConfidenceSampler):
    """Reveal as many tokens of low entropy as can depend on each other by a bound."""

    name: ClassVar[str] = "entropy-bound"
    confidence_metric: str = with_default(ConfidenceSampler, "confidence_metric", "entropy")
    gamma: float = option(
        0.1,
        "Nats by which the tokens of a step may depend on each other.",
        real,
        low=0,
        high=math.inf,
        unit="in nats",
    )

    @cached_property
    def policy(self) -> Policy:
        from unmask.sampling.policies import confidence

        return self.order(confidence.EntropyBound(self.gamma))


@dataclass(frozen=True, kw_only=True)
class ThresholdEdit(ConfidenceSampler):
    """As threshold, and mask once more what has become unlikely."""

    name: ClassVar[str] = "threshold-edit"
    greedy: ClassVar[bool] = True
    threshold: float = with_default(Threshold, "threshold", 0.9)
    edit_threshold: float = option(
        0.01,
        "Mask a token again if its probability falls below this; each position once.",
        real,
        low=0,
        high=1,
    )

    @cached_property
    def policy(self) -> Policy:
        from unmask.sampling.policies import confidence
        from unmask.sampling.policies.self_correction import Edited

        return Edited(self.order(confidence.Threshold(self.threshold)), self.edit_threshold)

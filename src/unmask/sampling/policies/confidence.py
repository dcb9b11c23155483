r"""Orders by confidence: the most confident predictions are revealed first.

MostConfident   sort by a score; reveal a quota, and beyond it what a rule allows

Threshold       all predictions of at least this confidence
Factor          as many as are likely to be right together
EntropyBound    as many as have bounded mutual information
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from unmask.diffusion.rng import RowRng
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.base import Clock, Move, Policy, Prediction, best, quota
from unmask.sampling.samplers import confidence as samplers
from unmask.validation import Options, require, with_default

DRAWN = "drawn"
"""The score that comes with the draw: a token's probability after temperature and filters."""


class RevealRule(Protocol):
    """How many of the most confident predictions may be revealed at once."""

    measures: ClassVar[tuple[str, ...]]
    """The scores that the rule is defined for."""

    def count(self, ordered: Tensor) -> Tensor:
        """Return how many, shape (B,), int64.

        Args:
            ordered: Scores in descending order, shape (B, L), float32; -inf after the last mask.
        """
        ...


@dataclass(frozen=True)
class Threshold(Options):
    """Reveal every prediction of at least this probability.

    Reference: Wu et al. 2025, "Fast-dLLM", arXiv:2505.22618; N. Barry's repository of 2025.
    """

    measures: ClassVar[tuple[str, ...]] = (DRAWN, "confidence", "margin")
    threshold: float = with_default(samplers.Threshold, "threshold")

    def count(self, ordered: Tensor) -> Tensor:
        return (ordered >= self.threshold).sum(1)


@dataclass(frozen=True)
class Factor(Options):
    """Reveal the n most confident predictions, n the largest with (n + 1) (1 - c_n) < factor.

    c_n is the n-th largest confidence. With a factor of 1 the most likely tokens of these positions
    are also jointly the most likely, if the confidences are those of the true conditionals.

    Reference: Wu et al. 2025, "Fast-dLLM", arXiv:2505.22618, Theorem 1 and the factor strategy.
    """

    measures: ClassVar[tuple[str, ...]] = (DRAWN, "confidence")
    factor: float = with_default(samplers.FastDLLMFactor, "factor")

    def count(self, ordered: Tensor) -> Tensor:
        place = torch.arange(1, ordered.shape[1] + 1, device=ordered.device)
        return ((place + 1) * (1 - ordered.double()) < self.factor).sum(1)


@dataclass(frozen=True)
class EntropyBound(Options):
    """Reveal the most predictions of lowest entropy whose sum without the largest is at most gamma.

    That sum bounds the mutual information of the tokens of a step, which independent draws ignore:
    with exact predictions and an unfiltered draw, the KL divergence of the generated text from the
    true law grows by at most gamma nats per step.

    Reference: Ben-Hamu et al. 2025, "Accelerated Sampling from Masked Diffusion Models via Entropy
    Bounded Unmasking", arXiv:2505.24857.
    """

    measures: ClassVar[tuple[str, ...]] = ("entropy",)
    gamma: float = with_default(samplers.EntropyBound, "gamma")

    def count(self, ordered: Tensor) -> Tensor:
        entropy = ordered.double().neg().masked_fill(torch.isneginf(ordered), 0)
        # In ascending order the largest of the first n is the n-th.
        return (entropy.cumsum(1) - entropy <= self.gamma).sum(1)


@dataclass(frozen=True)
class MostConfident(Options, Policy):
    """Reveal the most confident predictions.

    Args:
        confidence_metric: How positions are ranked: ``drawn``, the probability of a token under the
            distribution that it was drawn from; or ``confidence``, ``margin`` or ``entropy`` of the
            network's own distribution, at temperature 1 and before filters (see
            ``policies.confidence_scores``).
        tokens_per_step: The least number; None for the number that the time grid gives, see
            ``quota``.
        rule: What may be revealed beyond that; None for nothing.
        alg_temperature: Draw the positions without replacement, in proportion to
            exp(confidence / alg_temperature); None or 0 takes the most confident.

    Reference: Chang et al. 2022, "MaskGIT", arXiv:2202.04200, and Nie et al. 2025, arXiv:2502.09992
    (quota); Ye et al. 2025, "Dream", arXiv:2508.15487 (``alg_temp``, the order's temperature); see
    the rules for theirs.
    """

    confidence_metric: str = with_default(samplers.MaskGIT, "confidence_metric")
    tokens_per_step: int | None = with_default(samplers.MaskGIT, "tokens_per_step")
    rule: RevealRule | None = None
    alg_temperature: float | None = with_default(samplers.MaskGIT, "alg_temperature")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rule is None:
            return
        metric, fits = self.confidence_metric, self.rule.measures
        ranks = f"this one ranks predictions by {' or '.join(map(repr, fits))}"
        require(
            (f"confidence_metric = {metric!r}", metric in fits, f"another sampler; {ranks}"),
            ("alg_temperature", self.alg_temperature is None, "a fixed share, as in 'maskgit'"),
        )

    @property
    def blind(self) -> bool:
        return self.confidence_metric in ("margin", "entropy")

    @property
    def reads(self) -> str | None:
        return None if self.confidence_metric == DRAWN else self.confidence_metric

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        return canvas.masked

    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        score = prediction.probability if self.confidence_metric == DRAWN else prediction.measured
        score = score.masked_fill(~candidates, -torch.inf)
        count = quota(canvas, clock, self.tokens_per_step)
        if self.rule is not None:
            ordered = score.sort(dim=1, descending=True).values
            count = torch.maximum(count, self.rule.count(ordered))
        if self.alg_temperature:
            u = rng.uniform("order", clock.step, score.shape[1])
            # The largest scores after Gumbel noise are a draw without replacement.
            score = score.double() - self.alg_temperature * u.log().neg().log()
        return Move(best(score, count) & candidates)

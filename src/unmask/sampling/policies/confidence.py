r"""Orders by confidence: the guesses that the network is surest of are written first.

MostConfident   sort by a measure; reveal a quota, and beyond it what a rule allows

Threshold       whatever is at least this sure
Factor          as many as can be this sure together
EntropyBound    as many as can depend on each other this little
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from unmask.diffusion.rng import RowRng
from unmask.errors import UserError
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.base import Clock, Move, Policy, Prediction, best, quota
from unmask.sampling.samplers import confidence as samplers
from unmask.validation import Options, with_default

DRAWN = "drawn"
"""The measure that comes with the draw: a token's probability after temperature and filters."""


class Rule(Protocol):
    """How many of the surest guesses may be revealed at once."""

    measures: ClassVar[tuple[str, ...]]
    """The measures that the rule is made for."""

    def count(self, ordered: Tensor) -> Tensor:
        """Return how many, shape (B,), int64.

        Args:
            ordered: Measures from the surest on, shape (B, L), float32; -inf after the last mask.
        """
        ...


@dataclass(frozen=True)
class Threshold(Options):
    """Reveal every guess of at least this probability.

    Reference: Wu et al. 2025, "Fast-dLLM", arXiv:2505.22618; N. Barry's repository of 2025.
    """

    measures: ClassVar[tuple[str, ...]] = (DRAWN, "confidence", "margin")
    threshold: float = with_default(samplers.Threshold, "threshold")

    def count(self, ordered: Tensor) -> Tensor:
        return (ordered >= self.threshold).sum(1)


@dataclass(frozen=True)
class Factor(Options):
    """Reveal the n surest guesses, n the largest with (n + 1) (1 - c_n) < factor.

    c_n is the n-th largest confidence. With a factor of 1 the likeliest tokens of these positions
    are also the likeliest ones jointly, if the confidences are those of the true conditionals.

    Reference: Wu et al. 2025, "Fast-dLLM", arXiv:2505.22618, Theorem 1 and the factor strategy.
    """

    measures: ClassVar[tuple[str, ...]] = (DRAWN, "confidence")
    factor: float = with_default(samplers.FastDLLMFactor, "factor")

    def count(self, ordered: Tensor) -> Tensor:
        place = torch.arange(1, ordered.shape[1] + 1, device=ordered.device)
        return ((place + 1) * (1 - ordered.double()) < self.factor).sum(1)


@dataclass(frozen=True)
class EntropyBound(Options):
    """Reveal the longest run of low entropies whose sum, the largest left out, is at most gamma.

    That number bounds the mutual information of the tokens of a step, which drawing them
    independently ignores: with exact guesses and an unfiltered draw, the divergence of what is
    written from the truth is at most gamma nats a step.

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
    """Reveal the guesses that the network is most sure of.

    Args:
        confidence_metric: What counts as sure: ``drawn``, the probability of a token under the
            distribution that it was drawn from; or ``confidence``, ``margin`` or ``entropy`` of the
            network's own distribution, at temperature 1 and before filters (see
            ``policies.confidence_scores``).
        tokens_per_step: At least so many; None for what the time grid asks for, see ``quota``.
        rule: What may be revealed beyond that; None for nothing.
        alg_temperature: The positions are drawn without replacement, each time in proportion to
            exp(confidence / alg_temperature), instead of the surest; None or 0 for these.

    Reference: Chang et al. 2022, "MaskGIT", arXiv:2202.04200, and Nie et al. 2025, arXiv:2502.09992
    (quota); Ye et al. 2025, "Dream", arXiv:2508.15487 (``alg_temp``, the order's temperature); see
    the rules for theirs.
    """

    confidence_metric: str = with_default(samplers.MaskGIT, "confidence_metric")
    tokens_per_step: int | None = with_default(samplers.MaskGIT, "tokens_per_step")
    rule: Rule | None = None
    alg_temperature: float | None = with_default(samplers.MaskGIT, "alg_temperature")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rule is not None and self.confidence_metric not in self.rule.measures:
            fits = " or ".join(map(repr, self.rule.measures))
            raise UserError(
                f"this sampler judges guesses by {fits}, not by {self.confidence_metric!r}; "
                "choose one of these, or another sampler"
            )
        if self.alg_temperature is not None and self.rule is not None:
            raise UserError(
                "alg_temperature makes the order of a fixed share random, and this sampler reveals "
                "what is confident enough; use 'maskgit', or leave it out"
            )

    @property
    def reads(self) -> str | None:
        return None if self.confidence_metric == DRAWN else self.confidence_metric

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        return canvas.masked

    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        sure = prediction.probability if self.confidence_metric == DRAWN else prediction.measured
        sure = sure.masked_fill(~candidates, -torch.inf)
        count = quota(canvas, clock, self.tokens_per_step)
        if self.rule is not None:
            ordered = sure.sort(dim=1, descending=True).values
            count = torch.maximum(count, self.rule.count(ordered))
        if self.alg_temperature:
            u = rng.uniform("order", clock.step, sure.shape[1])
            # The largest of scores with Gumbel noise are draws without replacement.
            sure = sure.double() - self.alg_temperature * u.log().neg().log()
        return Move(best(sure, count) & candidates)

"""Formulations: a forward process with its schedule, its bound and its training objective.

    absorbing, one schedule       D3PM-absorbing, MD4, MDLM; the bound is estimated by exact k
    absorbing, one per token      spindle (DiffusionBERT), learned exponents (GenMD4)
    absorbing, any order          attention in the order of generation: the likelihood in a fixed
                                  order is exact, and generated tokens are computed once
    absorbing, in blocks          BD3-LM: the first of these per block, given the blocks before it
    uniform                       D3PM-uniform, in T steps or continuous time
    Gaussian                      D3PM's discretised Gaussian for ordered values, in T steps

Recipes and checkpoints name a formulation; see ``diffusion.registry``. Its reverse side is
``sampling.reverse``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, TypeAlias

from torch import Tensor

from unmask.diffusion.capabilities import ALL, require, unsupported
from unmask.diffusion.denoiser import Denoiser
from unmask.diffusion.objectives.any_order import order_nelbo, order_token_nats
from unmask.diffusion.objectives.block import block_nelbo
from unmask.diffusion.objectives.chain_rule import block_token_nats, sequential_token_nats
from unmask.diffusion.objectives.masked import (
    Loss,
    continuous_nelbo,
    discrete_nelbo,
    exact_k_nelbo,
    exact_k_token_nats,
)
from unmask.diffusion.objectives.per_token import (
    rloo_nelbo,
    tokenwise_discrete_nelbo,
    tokenwise_last_step_nelbo,
    tokenwise_nelbo,
)
from unmask.diffusion.objectives.transition import transition_nelbo, uniform_nelbo
from unmask.diffusion.processes.absorbing_per_token import PerTokenProcess
from unmask.diffusion.schedules.continuous import FromMasks
from unmask.diffusion.schedules.grids import check_strides, check_times
from unmask.diffusion.schedules.per_token import TokensFromMasks
from unmask.errors import UserError
from unmask.validation import Option, whole

Bound: TypeAlias = Callable[..., Loss]
"""(denoiser, *, x0, t, editable, generator, valid=None) -> Loss; see ``objectives.masked``."""


STEPS = Option("Steps of a bound.", whole, low=1, high=1_000_000)
"""Reads a number of steps. With more, a bound equals that in continuous time up to rounding."""


@dataclass(frozen=True)
class Formulation(ABC):
    """A forward process with its bound and its training objective.

    Args:
        process: The forward process.
        num_steps: T of the bound in training; 0 for continuous time.
        cross_entropy_weight: Weight of the plain cross-entropy that training adds to the bound; the
            sum is divided by 1 + half of it.

    Attributes:
        kind: What models of this formulation are called in an error.
        supports: Names of ``capabilities.FEATURES``.
        on_grid: Whether the process exists only at the times j / T, T = ``num_steps``.
    """

    kind: ClassVar[str] = "masked models"
    supports: ClassVar[frozenset[str]] = ALL
    on_grid: ClassVar[bool] = False

    process: Any
    num_steps: int = 0
    cross_entropy_weight: float = 0.0

    @property
    @abstractmethod
    def continuous(self) -> Bound:
        """The continuous-time bound, as estimated in training."""

    @abstractmethod
    def in_steps(self, num_steps: int, grid: Tensor | None = None) -> Bound:
        """Return the bound of a sampler with T steps.

        Args:
            num_steps: T.
            grid: The T + 1 times of the sampler, float64; None for equal steps. See
                ``pipelines.sampler_options.sampler_grid`` and ``check_grid``.
        """

    @property
    def token_bound(self) -> Callable[..., Tensor] | None:
        """The bound per token, as ``masked.exact_k_token_nats``; None if there is no such form."""
        return None

    def token_nats(self, denoiser: Any, **batch: Any) -> Tensor:
        """Return the exact -log p of every token, generated one per network call in a given order.

        The order is that of a row or, for block models, that within each block.

        Args:
            denoiser: The network.
            batch: ``x0``, ``rank``, ``editable`` and ``valid``, as of
                ``objectives.chain_rule.sequential_token_nats``, which describes the result too.

        Raises:
            UserError: If this formulation has no likelihood in an order.
        """
        require([self], "likelihood_in_order")
        return sequential_token_nats(denoiser, self.process, **batch)

    def check_grid(self, grid: Tensor) -> None:
        """Raise a UserError unless all times of a grid are among those of training."""
        if self.num_steps:
            check_times(grid, self.num_steps)

    def check_strides(self, num_steps: int) -> None:
        """Raise a UserError unless the number of steps divides that of training."""
        STEPS("num_steps", num_steps)
        if self.num_steps:
            check_strides(num_steps, self.num_steps)

    @property
    def bound(self) -> Bound:
        """The bound for evaluation: that of training, in the estimator of lowest variance."""
        return self.in_steps(self.num_steps) if self.num_steps else self.continuous

    def objective(self, denoiser: Denoiser, **batch: Any) -> tuple[Loss, Tensor]:
        """Return an estimate of the bound, and the training objective, (B,), in nats.

        Args:
            denoiser: The network.
            batch: The keywords of a ``Bound``.

        Raises:
            UserError: If the bound has no hybrid loss and ``cross_entropy_weight`` is not 0.
        """
        trained_on = self.in_steps(self.num_steps) if self.num_steps else self.continuous
        loss = trained_on(denoiser, **batch)
        if not self.cross_entropy_weight:
            return loss, loss.nats
        if loss.cross_entropy is None:
            raise UserError("this bound has no hybrid loss; set cross_entropy_weight to 0")
        weight = self.cross_entropy_weight
        # On average half of the tokens are masked, so the divisor gives the sum the scale of the
        # bound. The optimisers do not depend on the scale of a loss.
        return loss, (loss.nats + weight * loss.cross_entropy) / (1 + weight / 2)


class MaskedFormulation(Formulation):
    """Masked diffusion with one schedule for all tokens; an ``AbsorbingProcess``."""

    @property
    def continuous(self) -> Bound:
        return partial(continuous_nelbo, process=self.process)

    def in_steps(self, num_steps: int, grid: Tensor | None = None) -> Bound:
        process = replace(self.process, schedule=FromMasks(self.process.schedule))
        return partial(discrete_nelbo, process=process, num_steps=num_steps, grid=grid)

    @property
    def bound(self) -> Bound:
        """The continuous-time bound by exact k, whatever ``num_steps`` is."""
        return partial(exact_k_nelbo, process=self.process)

    @property
    def token_bound(self) -> Callable[..., Tensor] | None:
        return partial(exact_k_token_nats, process=self.process)


class AnyOrderFormulation(Formulation):
    """Masked diffusion with attention in the order of generation; an ``AbsorbingProcess``."""

    kind = "any-order models"
    supports = ALL - {"pseudo_likelihood", "bound_in_steps", "export"}

    @property
    def continuous(self) -> Bound:
        return order_nelbo

    def in_steps(self, num_steps: int, grid: Tensor | None = None) -> Bound:
        raise unsupported(self, "bound_in_steps")

    def token_nats(self, denoiser: Any, **batch: Any) -> Tensor:
        return order_token_nats(denoiser, **batch)


@dataclass(frozen=True)
class BlockFormulation(MaskedFormulation):
    """Masked diffusion per block, given the blocks before it; see ``objectives.block``.

    Args:
        block_length: Tokens in a block.
        interval: The interval of times in training.
    """

    kind: ClassVar[str] = "block models"
    supports: ClassVar[frozenset[str]] = frozenset(
        {"likelihood_in_order", "bound_in_steps", "any_steps", "continuous_time"}
        | {"scoring_window", "eight_bits", "bfloat16"}
    )

    block_length: int = 1
    interval: tuple[float, float] = (0.0, 1.0)

    @property
    def continuous(self) -> Bound:
        return partial(self._in_blocks(super().continuous), interval=self.interval)

    def in_steps(self, num_steps: int, grid: Tensor | None = None) -> Bound:
        """Return the bound of a sampler with T steps per block."""
        return self._in_blocks(super().in_steps(num_steps, grid))

    def token_nats(self, denoiser: Any, **batch: Any) -> Tensor:
        return block_token_nats(denoiser, self.process, self.block_length, **batch)

    @property
    def bound(self) -> Bound:
        return self._in_blocks(super().bound)

    @property
    def token_bound(self) -> Callable[..., Tensor] | None:
        return None

    def _in_blocks(self, bound: Bound) -> Bound:
        return partial(block_nelbo, bound=bound, block_length=self.block_length)


class PerTokenFormulation(Formulation):
    """Masked diffusion with a fixed schedule per vocabulary entry; a ``PerTokenProcess``."""

    @property
    def continuous(self) -> Bound:
        return partial(tokenwise_nelbo, process=self.process)

    def in_steps(self, num_steps: int, grid: Tensor | None = None) -> Bound:
        return partial(
            tokenwise_discrete_nelbo, process=self.process, num_steps=num_steps, grid=grid
        )

    @property
    def bound(self) -> Bound:
        """The T-step bound of training, or the continuous-time bound of a sampler."""
        if self.num_steps:
            return self.in_steps(self.num_steps)
        return partial(tokenwise_last_step_nelbo, process=_from_masks(self.process))


class LearnedFormulation(PerTokenFormulation):
    """Masked diffusion with a trained schedule per vocabulary entry."""

    kind = "models with a learned schedule"
    supports = ALL - {"bfloat16"}

    def objective(self, denoiser: Denoiser, **batch: Any) -> tuple[Loss, Tensor]:
        return rloo_nelbo(denoiser, self.process, **batch)

    def in_steps(self, num_steps: int, grid: Tensor | None = None) -> Bound:
        process = _from_masks(self.process)
        return partial(tokenwise_discrete_nelbo, process=process, num_steps=num_steps, grid=grid)


def _from_masks(process: PerTokenProcess) -> PerTokenProcess:
    """Return the process of a sampler that starts from masks alone."""
    return replace(process, schedule=TokensFromMasks(process.schedule))


class TransitionFormulation(Formulation):
    """Noise that turns a token into other tokens; a ``TransitionProcess``."""

    kind = "models without masks"
    supports = frozenset(
        {"constraints", "phrase_bans", "stop_at_end", "excerpts", "text_after_blank"}
        | {"bound_in_steps", "scoring_window", "export", "eight_bits", "bfloat16"}
    )

    def in_steps(self, num_steps: int, grid: Tensor | None = None) -> Bound:
        return partial(transition_nelbo, process=self.process, num_steps=num_steps, grid=grid)


class UniformFormulation(TransitionFormulation):
    """Uniform noise: a token turns into any other; a ``UniformProcess``."""

    kind = "uniform-noise models"
    supports = TransitionFormulation.supports | {"continuous_time"}

    @property
    def continuous(self) -> Bound:
        return partial(uniform_nelbo, process=self.process)


@dataclass(frozen=True)
class GaussianFormulation(TransitionFormulation):
    """Gaussian noise on ordered values; a ``GaussianProcess`` of ``num_steps`` steps."""

    kind: ClassVar[str] = "Gaussian-noise models"
    on_grid: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.num_steps != self.process.num_steps:
            raise UserError(
                f"this Gaussian noise has {self.process.num_steps} steps, not {self.num_steps}"
            )

    @property
    def continuous(self) -> Bound:
        raise unsupported(self, "continuous_time")

    def in_steps(self, num_steps: int, grid: Tensor | None = None) -> Bound:
        """Return the bound of a sampler in equal strides, or at some of the times j / T."""
        if grid is None:
            self.check_strides(num_steps)
        else:
            self.check_grid(grid)
        return super().in_steps(num_steps, grid)

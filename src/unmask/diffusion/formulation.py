"""A method: a forward process, the bound that goes with it, and the way back that it allows.

    absorbing, one schedule       D3PM-absorbing, MD4, MDLM; the bound is estimated by exact k
    absorbing, one per token      spindle (DiffusionBERT), learned exponents (GenMD4)
    absorbing, attention in the   any order: the likelihood in a fixed order is exact, and what is
    order of writing              written is computed once
    absorbing, in blocks          BD3-LM: the first of these for each block, given those before it
    uniform                       D3PM-uniform, in T steps or continuous time

A recipe and a checkpoint name a method; nothing else of training, evaluation or sampling depends on
which it is.
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
from unmask.diffusion.schedules.per_token import TokensFromMasks
from unmask.errors import UserError

Bound: TypeAlias = Callable[..., Loss]
"""(denoiser, *, x0, t, editable, generator, valid=None) -> Loss: a function of ``masked``."""


MAX_STEPS = 1_000_000
"""Of a bound: with more of them it is that of continuous time, but for the rounding."""


def check_steps(num_steps: int) -> None:
    """Raise a UserError unless a bound can have so many steps."""
    if not 1 <= num_steps <= MAX_STEPS:
        raise UserError(f"the bound needs 1 to {MAX_STEPS} steps, not {num_steps}")


@dataclass(frozen=True)
class Formulation(ABC):
    """A forward process with what belongs to it.

    Args:
        process: The forward process.
        num_steps: T of the bound that is trained on; 0 for continuous time.
        cross_entropy_weight: How often training adds the plain cross-entropy to the bound; the sum
            is divided by 1 + half of it.

    Attributes:
        kind: What models of this formulation are called in an error.
        supports: Names of ``capabilities.FEATURES``.
    """

    kind: ClassVar[str] = "masked models"
    supports: ClassVar[frozenset[str]] = ALL

    process: Any
    num_steps: int = 0
    cross_entropy_weight: float = 0.0

    @property
    @abstractmethod
    def continuous(self) -> Bound:
        """The bound in continuous time, as training estimates it."""

    @abstractmethod
    def in_steps(self, num_steps: int, grid: Tensor | None = None) -> Bound:
        """Return the bound of a sampler that takes T steps.

        Args:
            num_steps: T.
            grid: The T + 1 times of the sampler, float64; None for equal steps. See
                ``pipelines.sampler_options.sampler_grid`` and ``check_grid``.
        """

    @property
    def token_bound(self) -> Callable[..., Tensor] | None:
        """The bound token by token, as ``masked.exact_k_token_nats``; None where it has none."""
        return None

    def token_nats(
        self,
        denoiser: Any,
        *,
        x0: Tensor,
        rank: Tensor,
        editable: Tensor,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Return the exact -log p of every token when one a call is written in a given order.

        The arguments and the result are those of ``objectives.chain_rule.sequential_token_nats``,
        and the order goes across a row or, in blocks, within each of them.

        Raises:
            UserError: If this formulation has no likelihood in an order.
        """
        require([self], "likelihood_in_order")
        nats: Tensor = sequential_token_nats(denoiser, self.process, x0, rank, editable, valid)
        return nats

    def check_grid(self, grid: Tensor) -> None:
        """Raise a UserError unless all times of a grid are among those that were trained on."""
        steps = grid.double() * self.num_steps
        if self.num_steps and bool(((steps - steps.round()).abs() > 1e-6).any()):
            raise UserError(
                f"the times of this grid are not among the {self.num_steps} steps that this model "
                "was trained in; take the grid 'uniform' with a number of steps that divides them"
            )

    def check_strides(self, num_steps: int) -> None:
        """Raise a UserError unless so many steps take equal strides over the grid trained on."""
        check_steps(num_steps)
        if self.num_steps % num_steps:
            grid = range(1, self.num_steps + 1)
            near = min(
                (n for n in grid if self.num_steps % n == 0), key=lambda n: abs(n - num_steps)
            )
            raise UserError(
                f"{num_steps} steps take no equal strides over the {self.num_steps} that this "
                f"model was trained in; {near} would"
            )

    @property
    def bound(self) -> Bound:
        """What the model is judged by: the bound that is trained on, with its lowest variance."""
        return self.in_steps(self.num_steps) if self.num_steps else self.continuous

    def objective(self, denoiser: Denoiser, **batch: Any) -> tuple[Loss, Tensor]:
        """Return an estimate of the bound, and what training minimises instead, (B,), in nats.

        Args:
            denoiser: The network.
            batch: The keywords of a ``Bound``.

        Raises:
            UserError: If a hybrid loss is asked of a bound that has none.
        """
        trained_on = self.in_steps(self.num_steps) if self.num_steps else self.continuous
        loss = trained_on(denoiser, **batch)
        if not self.cross_entropy_weight:
            return loss, loss.nats
        if loss.cross_entropy is None:
            raise UserError("this bound knows no hybrid loss; set cross_entropy_weight to 0")
        weight = self.cross_entropy_weight
        # Half of the tokens are masked on average: divided by this, the sum has the size of the
        # bound. The optimisers do not depend on the scale of a loss.
        return loss, (loss.nats + weight * loss.cross_entropy) / (1 + weight / 2)


class MaskedFormulation(Formulation):
    """Masks, with one schedule for all tokens; the process is an ``AbsorbingProcess``."""

    @property
    def continuous(self) -> Bound:
        return partial(continuous_nelbo, process=self.process)

    def in_steps(self, num_steps: int, grid: Tensor | None = None) -> Bound:
        process = replace(self.process, schedule=FromMasks(self.process.schedule))
        return partial(discrete_nelbo, process=process, num_steps=num_steps, grid=grid)

    @property
    def bound(self) -> Bound:
        """The continuous-time bound by exact k, however many steps were trained on."""
        return partial(exact_k_nelbo, process=self.process)

    @property
    def token_bound(self) -> Callable[..., Tensor] | None:
        return partial(exact_k_token_nats, process=self.process)


class AnyOrderFormulation(Formulation):
    """Masks, and a network that sees tokens in the order of writing; an ``AbsorbingProcess``."""

    kind = "any-order models"
    supports = ALL - {"pseudo_likelihood", "bound_in_steps"}

    @property
    def continuous(self) -> Bound:
        return order_nelbo

    def in_steps(self, num_steps: int, grid: Tensor | None = None) -> Bound:
        raise unsupported(self, "bound_in_steps")

    def token_nats(
        self,
        denoiser: Any,
        *,
        x0: Tensor,
        rank: Tensor,
        editable: Tensor,
        valid: Tensor | None = None,
    ) -> Tensor:
        return order_token_nats(denoiser, x0, rank, editable, valid)


@dataclass(frozen=True)
class BlockFormulation(MaskedFormulation):
    """The same for every block of a row, given the blocks before it; see ``objectives.block``.

    Args:
        block_length: Tokens in a block.
        interval: The times that training draws from.
    """

    kind: ClassVar[str] = "block models"
    supports: ClassVar[frozenset[str]] = frozenset(
        {"likelihood_in_order", "bound_in_steps", "any_steps", "scoring_window"}
    )

    block_length: int = 1
    interval: tuple[float, float] = (0.0, 1.0)

    @property
    def continuous(self) -> Bound:
        return partial(self._in_blocks(super().continuous), interval=self.interval)

    def in_steps(self, num_steps: int, grid: Tensor | None = None) -> Bound:
        """Return the bound of a sampler that takes T steps for every block."""
        return self._in_blocks(super().in_steps(num_steps, grid))

    def token_nats(
        self,
        denoiser: Any,
        *,
        x0: Tensor,
        rank: Tensor,
        editable: Tensor,
        valid: Tensor | None = None,
    ) -> Tensor:
        return block_token_nats(
            denoiser, self.process, self.block_length, x0, rank, editable, valid
        )

    @property
    def bound(self) -> Bound:
        return self._in_blocks(super().bound)

    @property
    def token_bound(self) -> Callable[..., Tensor] | None:
        return None

    def _in_blocks(self, bound: Bound) -> Bound:
        return partial(block_nelbo, bound=bound, block_length=self.block_length)


class PerTokenFormulation(Formulation):
    """Masks, with a fixed schedule for every entry of the vocabulary; a ``PerTokenProcess``."""

    @property
    def continuous(self) -> Bound:
        return partial(tokenwise_nelbo, process=self.process)

    def in_steps(self, num_steps: int, grid: Tensor | None = None) -> Bound:
        return partial(
            tokenwise_discrete_nelbo, process=self.process, num_steps=num_steps, grid=grid
        )

    @property
    def bound(self) -> Bound:
        """What was trained on in steps, or continuous time as a sampler goes through it."""
        if self.num_steps:
            return self.in_steps(self.num_steps)
        return partial(tokenwise_last_step_nelbo, process=_from_masks(self.process))


class LearnedFormulation(PerTokenFormulation):
    """Masks, with a schedule for every entry of the vocabulary that is trained as well."""

    def objective(self, denoiser: Denoiser, **batch: Any) -> tuple[Loss, Tensor]:
        return rloo_nelbo(denoiser, self.process, **batch)

    def in_steps(self, num_steps: int, grid: Tensor | None = None) -> Bound:
        process = _from_masks(self.process)
        return partial(tokenwise_discrete_nelbo, process=process, num_steps=num_steps, grid=grid)


def _from_masks(process: PerTokenProcess) -> PerTokenProcess:
    """Return a process as a sampler goes through it, which starts from masks alone."""
    return replace(process, schedule=TokensFromMasks(process.schedule))


class UniformFormulation(Formulation):
    """No masks: a token turns into any other; the process is a ``UniformProcess``."""

    kind = "uniform-noise models"
    supports = frozenset(
        {"constraints", "phrase_bans", "stop_at_end", "excerpts", "text_after_blank"}
        | {"bound_in_steps", "scoring_window"}
    )

    @property
    def continuous(self) -> Bound:
        return partial(uniform_nelbo, process=self.process)

    def in_steps(self, num_steps: int, grid: Tensor | None = None) -> Bound:
        return partial(transition_nelbo, process=self.process, num_steps=num_steps, grid=grid)

"""A method: a forward process, the bound that goes with it, and the way back that it allows.

    absorbing, one schedule       D3PM-absorbing, MD4, MDLM; the bound is estimated by exact k
    absorbing, one per token      spindle (DiffusionBERT), learned exponents (GenMD4)
    absorbing, attention in the   any order: the likelihood of an order is exact, and what is
    order of writing              written is computed once
    absorbing, in blocks          BD3-LM: the first of these for each block, given those before it
    uniform                       D3PM-uniform, in T steps or continuous time

A recipe and a checkpoint name a method; nothing else of training, evaluation or sampling depends on
which it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from unmask.blocks import block_nelbo
from unmask.canvas import Canvas
from unmask.chains import Transition
from unmask.denoiser import Around, Denoiser
from unmask.discretisation import d3pm_cosine, mutual_information
from unmask.errors import UserError, did_you_mean
from unmask.noise import Noise
from unmask.objective import Loss, continuous_nelbo, discrete_nelbo, exact_k_nelbo
from unmask.objective_order import OrderedDenoiser, order_nelbo
from unmask.objective_token import rloo_nelbo, tokenwise_discrete_nelbo, tokenwise_nelbo
from unmask.objective_transition import transition_nelbo, uniform_nelbo
from unmask.orders import ByToken, RandomOrder
from unmask.policy import Policy
from unmask.process import AbsorbingProcess
from unmask.schedule import SCHEDULES, make_schedule
from unmask.token_process import TokenwiseProcess
from unmask.token_schedule import LearnedExponents, spindle
from unmask.transition import UniformProcess

Bound: TypeAlias = Callable[..., Loss]
"""(denoiser, *, x0, t, editable, generator, valid=None) -> Loss: a function of ``objective``."""

PROCESSES = ("absorbing", "uniform")
BY_TOKEN = ("spindle", "learned")
ON_GRID = ("d3pm-cosine", "mutual-information")
ATTENTION = ("full", "any-order")


@dataclass(frozen=True)
class Method(ABC):
    """A forward process with what belongs to it.

    Args:
        process: The forward process.
        num_steps: T of the bound that is trained on; 0 for continuous time.
        cross_entropy_weight: Nats per sequence of plain cross-entropy that training adds.
    """

    process: Any
    num_steps: int = 0
    cross_entropy_weight: float = 0.0

    @property
    @abstractmethod
    def continuous(self) -> Bound:
        """The bound in continuous time, as training estimates it."""

    @abstractmethod
    def in_steps(self, num_steps: int) -> Bound:
        """Return the bound of a sampler that takes T steps."""

    def check_strides(self, num_steps: int) -> None:
        """Raise a UserError unless so many steps take equal strides over the grid trained on."""
        if num_steps < 1:
            raise UserError(f"the bound needs 1 or more steps, not {num_steps}")
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
        return loss, loss.nats + self.cross_entropy_weight * loss.cross_entropy

    def reverse(self, policy: Policy) -> tuple[Policy, Any]:
        """Return how to do what a policy wants under this process, and the process it is told of.

        Raises:
            UserError: If it cannot be done.
        """
        return policy, self.process

    def start(self, canvas: Canvas, noise: Noise) -> Canvas:
        """Return the canvas at t = 1: the blanks filled with what the process ends in."""
        return canvas

    def posterior_denoiser(self, denoiser: Denoiser, cached: bool = True) -> Denoiser:
        """Return the denoiser whose draws a sampler writes in one run, p(x_0 | x_t).

        Args:
            denoiser: The network.
            cached: Keep what need not be computed again, where the result is the same.
        """
        return denoiser


class SharedMethod(Method):
    """Masks, with one schedule for all tokens; the process is an ``AbsorbingProcess``."""

    @property
    def continuous(self) -> Bound:
        return partial(continuous_nelbo, process=self.process)

    def in_steps(self, num_steps: int) -> Bound:
        return partial(discrete_nelbo, process=self.process, num_steps=num_steps)

    @property
    def bound(self) -> Bound:
        """The continuous-time bound by exact k, however many steps were trained on."""
        return partial(exact_k_nelbo, process=self.process)


class OrderedMethod(Method):
    """Masks, and a network that sees tokens in the order of writing; an ``AbsorbingProcess``."""

    @property
    def continuous(self) -> Bound:
        return order_nelbo

    def in_steps(self, num_steps: int) -> Bound:
        raise UserError(
            "a network that sees tokens in the order of writing has an exact likelihood for every "
            "order, and no bound of a number of steps; leave the number of steps out"
        )

    def posterior_denoiser(self, denoiser: Denoiser, cached: bool = True) -> Denoiser:
        assert isinstance(denoiser, OrderedDenoiser)
        return denoiser.session(cached)


@dataclass(frozen=True)
class BlockMethod(SharedMethod):
    """The same for every block of a row, given the blocks before it; see ``blocks``.

    Args:
        block_length: Tokens in a block.
        interval: The times that training draws from.
    """

    block_length: int = 1
    interval: tuple[float, float] = (0.0, 1.0)

    @property
    def continuous(self) -> Bound:
        return partial(self._in_blocks(super().continuous), interval=self.interval)

    def in_steps(self, num_steps: int) -> Bound:
        """Return the bound of a sampler that takes T steps for every block."""
        return self._in_blocks(super().in_steps(num_steps))

    @property
    def bound(self) -> Bound:
        return self._in_blocks(super().bound)

    def posterior_denoiser(self, denoiser: Denoiser, cached: bool = True) -> Denoiser:
        network: Any = denoiser
        context: Denoiser = network.context(cached)
        return context

    def _in_blocks(self, bound: Bound) -> Bound:
        return partial(block_nelbo, bound=bound, block_length=self.block_length)


class TokenwiseMethod(Method):
    """Masks, with a fixed schedule for every entry of the vocabulary; a ``TokenwiseProcess``."""

    @property
    def continuous(self) -> Bound:
        return partial(tokenwise_nelbo, process=self.process)

    def in_steps(self, num_steps: int) -> Bound:
        return partial(tokenwise_discrete_nelbo, process=self.process, num_steps=num_steps)

    def reverse(self, policy: Policy) -> tuple[Policy, Any]:
        if isinstance(policy, RandomOrder):
            return ByToken(), self.process
        # Orders by confidence have no exact law anyway; their quotas follow the linear schedule.
        return policy, AbsorbingProcess(make_schedule("linear"), self.process.mask_token_id)


class LearnedMethod(TokenwiseMethod):
    """Masks, with a schedule for every entry of the vocabulary that is trained as well."""

    def objective(self, denoiser: Denoiser, **batch: Any) -> tuple[Loss, Tensor]:
        return rloo_nelbo(denoiser, self.process, **batch)


class UniformMethod(Method):
    """No masks: a token turns into any other; the process is a ``UniformProcess``."""

    @property
    def continuous(self) -> Bound:
        return partial(uniform_nelbo, process=self.process)

    def in_steps(self, num_steps: int) -> Bound:
        return partial(transition_nelbo, process=self.process, num_steps=num_steps)

    def reverse(self, policy: Policy) -> tuple[Policy, Any]:
        if not isinstance(policy, RandomOrder):
            raise UserError("a model of the uniform process has no masks; use sampler 'ancestral'")
        return Transition(), self.process

    def start(self, canvas: Canvas, noise: Noise) -> Canvas:
        ids = self.process.noise_ids(noise.uniform("start", 0, canvas.ids.shape[1]))
        return canvas.reveal(canvas.masked, ids)

    def posterior_denoiser(self, denoiser: Denoiser, cached: bool = True) -> Denoiser:
        return PosteriorDenoiser(denoiser, self.process)


@dataclass(frozen=True, eq=False)
class PosteriorDenoiser(Around):
    """A denoiser that also looks at the token it is asked about.

    Trained with the joint parametrisation a network learns p(x_0 | all other tokens); what the
    noised token itself says is a factor q(x_t | x_0) on top.
    """

    process: UniformProcess

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits of p(x_0 | x_t) at ``at``, (N, V); see ``Denoiser``."""
        where = torch.ones_like(xt, dtype=torch.bool) if at is None else at
        logits = self.inner(xt, t, at=where, valid=valid)
        row = where.nonzero()[:, 0]
        logits = self.process.posterior_logits(logits, xt[where], t[row])
        return logits.view(*xt.shape, -1) if at is None else logits


def check_names(
    process: str,
    schedule: dict[str, Any],
    num_steps: int,
    cross_entropy_weight: float = 0.0,
    attention: str = "full",
    block_length: int = 0,
) -> None:
    """Raise a UserError unless these go together; values that need data are checked later."""
    _check_attention(attention, process, schedule, num_steps or cross_entropy_weight, block_length)
    if process not in PROCESSES:
        hint = (
            "; a Gaussian needs ordered values, and tokens have no order"
            if process == "gaussian"
            else did_you_mean(process, PROCESSES)
        )
        raise UserError(f"unknown process {process!r}{hint}")
    if num_steps < 0:
        raise UserError(f"the bound needs 1 or more steps, or 0 for continuous time: {num_steps}")
    name = str(schedule["name"])
    if block_length and (process != "absorbing" or name in BY_TOKEN):
        raise UserError("blocks are for masks with one schedule for all tokens")
    if name in BY_TOKEN and process != "absorbing":
        raise UserError(f"the schedule {name!r} is for the absorbing process, not {process!r}")
    if name == "learned" and num_steps:
        raise UserError("a learned schedule is trained in continuous time; set num_steps to 0")
    if name in BY_TOKEN and not num_steps and cross_entropy_weight:
        raise UserError(
            f"with the schedule {name!r} the hybrid loss is one of steps; set objective.num_steps"
        )
    if name in ON_GRID and not num_steps:
        raise UserError(f"the schedule {name!r} belongs to a number of steps; set num_steps")
    known = (*SCHEDULES, *BY_TOKEN, *ON_GRID)
    if name not in known:
        raise UserError(f"unknown schedule {name!r}{did_you_mean(name, known)}")
    if name in SCHEDULES:
        make_schedule(**schedule)


def _check_attention(
    attention: str, process: str, schedule: dict[str, Any], terms: float, block_length: int
) -> None:
    if attention not in ATTENTION:
        raise UserError(f"unknown attention {attention!r}{did_you_mean(attention, ATTENTION)}")
    special = process != "absorbing" or schedule["name"] in (*BY_TOKEN, *ON_GRID)
    if attention == "any-order" and (special or terms or block_length):
        raise UserError(
            "attention 'any-order' goes with the absorbing process, one schedule for all tokens "
            "and the bound in continuous time"
        )


def make_method(
    process: str,
    schedule: dict[str, Any],
    *,
    mask_token_id: int,
    vocab_size: int,
    data_ids: Tensor,
    num_steps: int = 0,
    cross_entropy_weight: float = 0.0,
    counts: Tensor | None = None,
    learned: LearnedExponents | None = None,
    attention: str = "full",
    block_length: int = 0,
    interval: tuple[float, float] = (0.0, 1.0),
) -> Method:
    """Build a method from the names in a recipe or a checkpoint.

    Args:
        process: ``absorbing`` or ``uniform``.
        schedule: ``name`` and parameters.
        mask_token_id: The id of [MASK].
        vocab_size: Logits per position, V.
        data_ids: The ids that occur in data, shape (V',), int64.
        num_steps: T of the bound; 0 for continuous time.
        cross_entropy_weight: lambda of the hybrid loss, per step.
        counts: How often each id occurs in the training text, shape (V,); for the schedules that
            are made from it.
        learned: The exponents of the schedule ``learned``.
        attention: ``full``, or ``any-order`` for a network that sees what was written before.
        block_length: Tokens in a block; 0 for no blocks.
        interval: Of blocks, the times that training draws from.

    Raises:
        UserError: If a name is unknown, two do not go together, or the counts do not fit.
    """
    check_names(process, schedule, num_steps, cross_entropy_weight, attention, block_length)
    # In D3PM's code lambda stands beside one step of the bound, not beside all T.
    weight = cross_entropy_weight * max(num_steps, 1)
    parameters = {key: value for key, value in schedule.items() if key != "name"}
    name = str(schedule["name"])
    if name in BY_TOKEN:
        if name == "learned":
            if learned is None or learned.vocab_size != vocab_size:
                raise UserError("the exponents of the learned schedule do not fit the tokenizer")
            own: Any = learned
        else:
            own = _from_counts(counts, vocab_size, data_ids, parameters)
        by_token = TokenwiseProcess(own, mask_token_id, counts)
        by = LearnedMethod if name == "learned" else TokenwiseMethod
        return by(by_token, num_steps, weight)
    if name in ON_GRID:
        if parameters:
            raise UserError(f"schedule {name!r} takes no parameters but the number of steps")
        shared: Any = _on_grid(name, process, num_steps, counts, data_ids)
    else:
        shared = make_schedule(**schedule)
    if process == "uniform":
        return UniformMethod(UniformProcess(shared, data_ids), num_steps, weight)
    masks = AbsorbingProcess(shared, mask_token_id)
    if attention == "any-order":
        return OrderedMethod(masks)
    if block_length:
        return BlockMethod(masks, num_steps, weight, block_length, interval)
    return SharedMethod(masks, num_steps, weight)


def _from_counts(
    counts: Tensor | None, vocab_size: int, data_ids: Tensor, parameters: dict[str, Any]
) -> Any:
    if counts is None:
        raise UserError("a spindle is made from word counts, and this checkpoint has none")
    try:
        return spindle(counts, vocab_size, data_ids, **parameters)
    except TypeError as error:
        raise UserError(f"schedule 'spindle' does not take {sorted(parameters)}") from error


def _on_grid(
    name: str, process: str, num_steps: int, counts: Tensor | None, data_ids: Tensor
) -> Any:
    if name == "d3pm-cosine":
        return d3pm_cosine(num_steps)
    if process == "absorbing":
        # A mask tells nothing, so the information left is the share still visible, 1 - t.
        return make_schedule("linear")
    if counts is None:
        raise UserError("this schedule is made from word counts, and this checkpoint has none")
    return mutual_information(counts[data_ids], num_steps)

"""A method: a forward process, the bound that goes with it, and the way back that it allows.

    absorbing, one schedule       D3PM-absorbing, MD4, MDLM; the bound is estimated by exact k
    absorbing, one per token      spindle (DiffusionBERT), learned exponents (GenMD4)
    uniform                       D3PM-uniform, in T steps or continuous time

A recipe and a checkpoint name a method; nothing else of training, evaluation or sampling depends on
which it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from unmask.canvas import Canvas
from unmask.denoiser import Denoiser
from unmask.discretisation import d3pm_cosine, mutual_information
from unmask.errors import UserError, did_you_mean
from unmask.noise import Noise
from unmask.objective import Loss, continuous_nelbo, discrete_nelbo, exact_k_nelbo
from unmask.objective_token import rloo_nelbo, tokenwise_discrete_nelbo, tokenwise_nelbo
from unmask.objective_transition import transition_nelbo, uniform_nelbo
from unmask.policy import ByToken, Policy, RandomOrder, Transition
from unmask.process import AbsorbingProcess
from unmask.schedule import SCHEDULES, make_schedule
from unmask.token_process import TokenwiseProcess
from unmask.token_schedule import LearnedExponents, spindle
from unmask.transition import UniformProcess

Bound: TypeAlias = Callable[..., Loss]
"""(denoiser, x0, t, editable, generator, valid) -> Loss; see ``Method.bound``."""

PROCESSES = ("absorbing", "uniform")
BY_TOKEN = ("spindle", "learned")
ON_GRID = ("d3pm-cosine", "mutual-information")


class Method(Protocol):
    """What may be asked of a method. Arguments and results are those of ``objective``."""

    @property
    def process(self) -> Any:
        """The forward process."""
        ...

    def bound(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        t: Tensor,
        editable: Tensor,
        generator: torch.Generator,
        valid: Tensor | None = None,
    ) -> Loss:
        """Estimate the bound with as little variance as the method has to offer."""
        ...

    def objective(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        t: Tensor,
        editable: Tensor,
        generator: torch.Generator,
    ) -> tuple[Loss, Tensor]:
        """Return an estimate of the bound, and what training minimises instead, (B,), in nats."""
        ...

    def in_steps(self, num_steps: int) -> Bound:
        """Return the bound of a sampler that takes T steps, an estimator like ``bound``."""
        ...

    def way_back(self, policy: Policy) -> tuple[Policy, Any]:
        """Return how to do what a policy wants under this process, and the process it is told of.

        Raises:
            UserError: If it cannot be done.
        """
        ...

    def start(self, canvas: Canvas, noise: Noise) -> Canvas:
        """Return the canvas at t = 1: the blanks filled with what the process ends in."""
        ...

    def guesser(self, denoiser: Denoiser) -> Denoiser:
        """Return the denoiser whose draws a sampler writes, p(x_0 | x_t)."""
        ...


@dataclass(frozen=True)
class SharedMethod:
    """Masks, with one schedule for all tokens.

    Args:
        process: The forward process.
        num_steps: T of the bound that is trained on; 0 for continuous time.
        cross_entropy_weight: Nats per sequence of plain cross-entropy that training adds.
    """

    process: AbsorbingProcess
    num_steps: int = 0
    cross_entropy_weight: float = 0.0

    def bound(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        t: Tensor,
        editable: Tensor,
        generator: torch.Generator,
        valid: Tensor | None = None,
    ) -> Loss:
        return exact_k_nelbo(denoiser, self.process, x0, t, editable, generator, valid)

    def objective(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        t: Tensor,
        editable: Tensor,
        generator: torch.Generator,
    ) -> tuple[Loss, Tensor]:
        process, steps = self.process, self.num_steps
        loss = (
            discrete_nelbo(denoiser, process, x0, t, steps, editable, generator)
            if steps
            else continuous_nelbo(denoiser, process, x0, t, editable, generator)
        )
        return loss, _hybrid(loss, self.cross_entropy_weight)

    def in_steps(self, num_steps: int) -> Bound:
        def bound(
            denoiser: Denoiser,
            x0: Tensor,
            t: Tensor,
            editable: Tensor,
            generator: torch.Generator,
            valid: Tensor | None = None,
        ) -> Loss:
            process = self.process
            return discrete_nelbo(denoiser, process, x0, t, num_steps, editable, generator, valid)

        return bound

    def way_back(self, policy: Policy) -> tuple[Policy, Any]:
        return policy, self.process

    def start(self, canvas: Canvas, noise: Noise) -> Canvas:
        return canvas

    def guesser(self, denoiser: Denoiser) -> Denoiser:
        return denoiser


@dataclass(frozen=True)
class TokenwiseMethod(SharedMethod):
    """Masks, with a schedule for every entry of the vocabulary, fixed or learned."""

    process: Any

    def bound(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        t: Tensor,
        editable: Tensor,
        generator: torch.Generator,
        valid: Tensor | None = None,
    ) -> Loss:
        process, steps = self.process, self.num_steps
        if steps:
            return tokenwise_discrete_nelbo(
                denoiser, process, x0, t, steps, editable, generator, valid
            )
        return tokenwise_nelbo(denoiser, process, x0, t, editable, generator, valid)

    def objective(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        t: Tensor,
        editable: Tensor,
        generator: torch.Generator,
    ) -> tuple[Loss, Tensor]:
        if isinstance(self.process.schedule, LearnedExponents):
            return rloo_nelbo(denoiser, self.process, x0, t, editable, generator)
        loss = self.bound(denoiser, x0, t, editable, generator)
        return loss, _hybrid(loss, self.cross_entropy_weight)

    def in_steps(self, num_steps: int) -> Bound:
        return replace(self, num_steps=num_steps).bound

    def way_back(self, policy: Policy) -> tuple[Policy, Any]:
        if isinstance(policy, RandomOrder):
            return ByToken(), self.process
        # Orders by confidence have no exact law anyway; their quotas follow the linear schedule.
        return policy, AbsorbingProcess(make_schedule("linear"), self.process.mask_token_id)


@dataclass(frozen=True)
class UniformMethod:
    """No masks: a token turns into any other. Arguments as in ``SharedMethod``."""

    process: UniformProcess
    num_steps: int = 0
    cross_entropy_weight: float = 0.0

    def bound(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        t: Tensor,
        editable: Tensor,
        generator: torch.Generator,
        valid: Tensor | None = None,
    ) -> Loss:
        process, steps = self.process, self.num_steps
        if steps:
            return transition_nelbo(denoiser, process, x0, t, steps, editable, generator, valid)
        return uniform_nelbo(denoiser, process, x0, t, editable, generator, valid)

    def objective(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        t: Tensor,
        editable: Tensor,
        generator: torch.Generator,
    ) -> tuple[Loss, Tensor]:
        loss = self.bound(denoiser, x0, t, editable, generator)
        return loss, _hybrid(loss, self.cross_entropy_weight)

    def in_steps(self, num_steps: int) -> Bound:
        return replace(self, num_steps=num_steps).bound

    def way_back(self, policy: Policy) -> tuple[Policy, Any]:
        if not isinstance(policy, RandomOrder):
            raise UserError("a model of the uniform process has no masks; use sampler 'ancestral'")
        return Transition(), self.process

    def start(self, canvas: Canvas, noise: Noise) -> Canvas:
        ids = self.process.noise_ids(noise.uniform("start", 0, canvas.ids.shape[1]))
        return canvas.reveal(canvas.masked, ids)

    def guesser(self, denoiser: Denoiser) -> Denoiser:
        return Informed(denoiser, self.process)


@dataclass(frozen=True)
class Informed:
    """A denoiser that also looks at the token it is asked about.

    Trained with the joint parametrisation a network learns p(x_0 | all other tokens); what the
    noised token itself says is a factor q(x_t | x_0) on top.
    """

    inner: Denoiser
    process: UniformProcess

    @property
    def vocab_size(self) -> int:
        return self.inner.vocab_size

    @property
    def data_ids(self) -> Tensor:
        return self.inner.data_ids

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits of p(x_0 | x_t) at ``at``, (N, V); see ``Denoiser``."""
        where = torch.ones_like(xt, dtype=torch.bool) if at is None else at
        logits = self.inner(xt, t, at=where, valid=valid)
        row = where.nonzero()[:, 0]
        logits = self.process.posterior_logits(logits, xt[where], t[row])
        return logits.view(*xt.shape, -1) if at is None else logits


def _hybrid(loss: Loss, weight: float) -> Tensor:
    if not weight:
        return loss.nats
    if loss.cross_entropy is None:
        raise UserError("this bound knows no hybrid loss; set cross_entropy_weight to 0")
    return loss.nats + weight * loss.cross_entropy


def check_names(
    process: str, schedule: dict[str, Any], num_steps: int, cross_entropy_weight: float = 0.0
) -> None:
    """Raise a UserError unless these go together; values that need data are checked later."""
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
) -> SharedMethod | TokenwiseMethod | UniformMethod:
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

    Raises:
        UserError: If a name is unknown, two do not go together, or the counts do not fit.
    """
    check_names(process, schedule, num_steps, cross_entropy_weight)
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
        return TokenwiseMethod(by_token, num_steps, weight)
    if name in ON_GRID:
        if parameters:
            raise UserError(f"schedule {name!r} takes no parameters but the number of steps")
        shared: Any = _on_grid(name, process, num_steps, counts, data_ids)
    else:
        shared = make_schedule(**schedule)
    if process == "uniform":
        return UniformMethod(UniformProcess(shared, data_ids), num_steps, weight)
    return SharedMethod(AbsorbingProcess(shared, mask_token_id), num_steps, weight)


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

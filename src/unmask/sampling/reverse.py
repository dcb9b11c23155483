"""The reverse of each forward process: where sampling starts, what a policy becomes, and the loop.

absorbing       start from masks; the policy as it is
per token       start from masks; random order follows the schedules of the tokens
transition      (uniform, Gaussian noise) start from random tokens; every step redraws every token,
                so there is no order
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser, DenoiserWrapper, OrderedDenoiser
from unmask.diffusion.formulation import (
    AnyOrderFormulation,
    BlockFormulation,
    Formulation,
    PerTokenFormulation,
    TransitionFormulation,
)
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.processes.base import TransitionProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import make_schedule
from unmask.errors import UserError
from unmask.sampling import sampler
from unmask.sampling.canvas import Canvas, Frame
from unmask.sampling.policies.base import Policy
from unmask.sampling.policies.fixed_order import ByToken, RandomOrder
from unmask.sampling.policies.transition import TransitionReverse
from unmask.sampling.token_sampling import BurnIn, Draw


def sample(
    formulation: Formulation,
    denoiser: Denoiser,
    canvas: Canvas,
    policy: Policy,
    draw: Draw | BurnIn,
    grid: Tensor,
    rng: RowRng,
    **options: Any,
) -> Iterator[Frame]:
    """Generate tokens at the masks of a canvas with the reverse process of a formulation.

    Args:
        formulation: What the model was trained with.
        denoiser: p(x_0 | x_t); see ``posterior_denoiser``.
        canvas: The rows, with masks at the positions to generate under every process.
        policy: Which positions change, as for masked diffusion; see ``reverse``.
        options: ``end`` and ``matching`` of ``sampling.sampler.sample``.

    The other arguments and the frames are those of ``sampling.sampler.sample``.

    Raises:
        UserError: If the process cannot follow this policy, or does not exist at a time of the
            grid.
    """
    if formulation.on_grid:
        formulation.check_grid(grid)
    policy, process = reverse(formulation, policy)
    started = start(formulation, canvas, rng)
    return sampler.sample(denoiser, process, started, policy, draw, grid, rng, **options)


@singledispatch
def reverse(formulation: Formulation, policy: Policy) -> tuple[Policy, Any]:
    """Map a policy to its equivalent for a formulation; also return the process to sample with.

    Args:
        formulation: What the model was trained with.
        policy: Which positions change, as for masked diffusion with one schedule.

    Raises:
        UserError: If the process cannot follow this policy.
    """
    return policy, formulation.process


@reverse.register
def _(formulation: PerTokenFormulation, policy: Policy) -> tuple[Policy, Any]:
    if isinstance(policy, RandomOrder):
        return ByToken(), formulation.process
    # Orders by confidence have no exact law anyway; their quotas follow the linear schedule.
    return policy, AbsorbingProcess(make_schedule("linear"), formulation.process.mask_token_id)


@reverse.register
def _(formulation: TransitionFormulation, policy: Policy) -> tuple[Policy, Any]:
    if not isinstance(policy, RandomOrder):
        raise UserError(f"{formulation.kind} have no masks; use sampler 'ancestral'")
    return TransitionReverse(), formulation.process


@singledispatch
def start(formulation: Formulation, canvas: Canvas, rng: RowRng) -> Canvas:
    """Return the canvas at t = 1: pure noise at the positions to generate."""
    return canvas


@start.register
def _(formulation: TransitionFormulation, canvas: Canvas, rng: RowRng) -> Canvas:
    ids = formulation.process.noise_ids(rng.uniform("start", 0, canvas.ids.shape[1]))
    return canvas.reveal(canvas.masked, ids)


@singledispatch
def posterior_denoiser(formulation: Formulation, denoiser: Any, cached: bool = True) -> Denoiser:
    """Return the denoiser of one sampling run, p(x_0 | x_t).

    Args:
        formulation: What the model was trained with.
        denoiser: The network.
        cached: Keep what need not be computed again, where the result is the same.
    """
    network: Denoiser = denoiser
    return network


@posterior_denoiser.register
def _(formulation: AnyOrderFormulation, denoiser: Any, cached: bool = True) -> Denoiser:
    assert isinstance(denoiser, OrderedDenoiser)
    return denoiser.session(cached)


@posterior_denoiser.register
def _(formulation: BlockFormulation, denoiser: Any, cached: bool = True) -> Denoiser:
    context: Denoiser = denoiser.context(cached)
    return context


@posterior_denoiser.register
def _(formulation: TransitionFormulation, denoiser: Any, cached: bool = True) -> Denoiser:
    return PosteriorDenoiser(denoiser, formulation.process)


@dataclass(frozen=True, eq=False)
class PosteriorDenoiser(DenoiserWrapper):
    """A denoiser that is also conditioned on the noised token at the queried position.

    A network trained with the joint parametrisation learns p(x_0 | all other tokens). The factor of
    the noised token itself is q(x_t | x_0).
    """

    process: TransitionProcess

    @property
    def uses_time(self) -> bool:
        return True

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits of p(x_0 | x_t) at ``at``, (N, V); see ``Denoiser``."""
        where = torch.ones_like(xt, dtype=torch.bool) if at is None else at
        logits = self.inner(xt, t, at=where, valid=valid)
        row = where.nonzero()[:, 0]
        logits = self.process.posterior_logits(logits, xt[where], t[row])
        return logits.view(*xt.shape, -1) if at is None else logits

"""The reverse of a forward process: what a sampler does with a policy under each formulation.

absorbing       the policy as it is
per token       a random order becomes that of the schedules of the tokens
uniform         every token is drawn anew in each step; there are no masks to order
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from unmask.diffusion.denoiser import Around, Denoiser, OrderedDenoiser
from unmask.diffusion.formulation import (
    AnyOrderFormulation,
    BlockFormulation,
    Formulation,
    PerTokenFormulation,
    UniformFormulation,
)
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.processes.uniform import UniformProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import make_schedule
from unmask.errors import UserError
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.base import Policy
from unmask.sampling.policies.fixed_order import ByToken, RandomOrder
from unmask.sampling.policies.uniform import UniformReverse


@singledispatch
def reverse(formulation: Formulation, policy: Policy) -> tuple[Policy, Any]:
    """Return the policy that does under a process what another asks for, and that process.

    Args:
        formulation: What the model was trained by.
        policy: Which positions are to be revealed.

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
def _(formulation: UniformFormulation, policy: Policy) -> tuple[Policy, Any]:
    if not isinstance(policy, RandomOrder):
        raise UserError("a model of the uniform process has no masks; use sampler 'ancestral'")
    return UniformReverse(), formulation.process


def start(formulation: Formulation, canvas: Canvas, rng: RowRng) -> Canvas:
    """Return the canvas at t = 1: the blanks filled with what the process ends in."""
    if not isinstance(formulation, UniformFormulation):
        return canvas
    ids = formulation.process.noise_ids(rng.uniform("start", 0, canvas.ids.shape[1]))
    return canvas.reveal(canvas.masked, ids)


@singledispatch
def posterior_denoiser(formulation: Formulation, denoiser: Any, cached: bool = True) -> Denoiser:
    """Return the denoiser whose draws a sampler writes in one run, p(x_0 | x_t).

    Args:
        formulation: What the model was trained by.
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
def _(formulation: UniformFormulation, denoiser: Any, cached: bool = True) -> Denoiser:
    return PosteriorDenoiser(denoiser, formulation.process)


@dataclass(frozen=True, eq=False)
class PosteriorDenoiser(Around):
    """A denoiser that also looks at the token it is asked about.

    Trained with the joint parametrisation a network learns p(x_0 | all other tokens); what the
    noised token itself says is a factor q(x_t | x_0) on top.
    """

    process: UniformProcess

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

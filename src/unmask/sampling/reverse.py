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

from unmask.diffusion.denoiser import Around, Denoiser
from unmask.diffusion.formulation import (
    BlockMethod,
    Method,
    OrderedMethod,
    TokenwiseMethod,
    UniformMethod,
)
from unmask.diffusion.objectives.any_order import OrderedDenoiser
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.processes.uniform import UniformProcess
from unmask.diffusion.rng import Noise
from unmask.diffusion.schedules.continuous import make_schedule
from unmask.errors import UserError
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.base import Policy
from unmask.sampling.policies.fixed_order import ByToken, RandomOrder
from unmask.sampling.policies.gibbs import Transition


@singledispatch
def reverse(method: Method, policy: Policy) -> tuple[Policy, Any]:
    """Return the policy that does under a process what another asks for, and that process.

    Args:
        method: What the model was trained by.
        policy: Which positions are to be revealed.

    Raises:
        UserError: If the process cannot follow this policy.
    """
    return policy, method.process


@reverse.register
def _(method: TokenwiseMethod, policy: Policy) -> tuple[Policy, Any]:
    if isinstance(policy, RandomOrder):
        return ByToken(), method.process
    # Orders by confidence have no exact law anyway; their quotas follow the linear schedule.
    return policy, AbsorbingProcess(make_schedule("linear"), method.process.mask_token_id)


@reverse.register
def _(method: UniformMethod, policy: Policy) -> tuple[Policy, Any]:
    if not isinstance(policy, RandomOrder):
        raise UserError("a model of the uniform process has no masks; use sampler 'ancestral'")
    return Transition(), method.process


def start(method: Method, canvas: Canvas, noise: Noise) -> Canvas:
    """Return the canvas at t = 1: the blanks filled with what the process ends in."""
    if not isinstance(method, UniformMethod):
        return canvas
    ids = method.process.noise_ids(noise.uniform("start", 0, canvas.ids.shape[1]))
    return canvas.reveal(canvas.masked, ids)


@singledispatch
def posterior_denoiser(method: Method, denoiser: Any, cached: bool = True) -> Denoiser:
    """Return the denoiser whose draws a sampler writes in one run, p(x_0 | x_t).

    Args:
        method: What the model was trained by.
        denoiser: The network.
        cached: Keep what need not be computed again, where the result is the same.
    """
    network: Denoiser = denoiser
    return network


@posterior_denoiser.register
def _(method: OrderedMethod, denoiser: Any, cached: bool = True) -> Denoiser:
    assert isinstance(denoiser, OrderedDenoiser)
    return denoiser.session(cached)


@posterior_denoiser.register
def _(method: BlockMethod, denoiser: Any, cached: bool = True) -> Denoiser:
    context: Denoiser = denoiser.context(cached)
    return context


@posterior_denoiser.register
def _(method: UniformMethod, denoiser: Any, cached: bool = True) -> Denoiser:
    return PosteriorDenoiser(denoiser, method.process)


@dataclass(frozen=True, eq=False)
class PosteriorDenoiser(Around):
    """A denoiser that also looks at the token it is asked about.

    Trained with the joint parametrisation a network learns p(x_0 | all other tokens); what the
    noised token itself says is a factor q(x_t | x_0) on top.
    """

    process: UniformProcess

    @property
    def told_time(self) -> bool:
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

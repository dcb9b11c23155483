"""Bounds summed instead of sampled: every sequence, every noised copy, a quadrature over time.

The library's own objectives are handed each noised copy in turn, weighted by its probability, so
that what is summed is what users run.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from checks import generator
from unmask.diffusion.denoiser import BlockDenoiser, Denoiser, masked_cross_entropy
from unmask.diffusion.objectives.per_token import tokenwise_discrete_nelbo, tokenwise_nelbo
from unmask.diffusion.objectives.transition import transition_nelbo, uniform_nelbo
from unmask.diffusion.processes.absorbing_per_token import PerTokenProcess
from unmask.diffusion.processes.base import Corrupted
from unmask.diffusion.schedules.grids import time_grid
from unmask.diffusion.schedules.per_token import TokenSchedule
from unmask.evaluation.oracles.joint import JointOracle, TokenwiseOracle

# Below this time the bound with exponents of 1/2 and more has nothing left that 1e-6 would show.
EARLY = 1e-16


# --- masks, one schedule ---


@torch.no_grad()
def absorbing_bound(denoiser: Denoiser, joint: JointOracle) -> float:
    """Return the continuous-time bound by enumeration of all sequences and masks, in nats.

    sum over x, k, masks of k:  p(x) / (L C(L, k)) * L / k * S(x, mask)
    """
    x0 = joint.sequences()
    total = 0.0
    for count in range(1, joint.length + 1):
        masks = list(itertools.combinations(range(joint.length), count))
        for hidden in masks:
            at = torch.zeros_like(x0, dtype=torch.bool)
            at[:, list(hidden)] = True
            time = torch.full((len(x0),), count / joint.length)
            logits = denoiser(x0.masked_fill(at, joint.mask_token_id), time)
            log_probs = logits.double().log_softmax(-1)
            right = log_probs.gather(2, x0[..., None])[..., 0]
            surprise = -(right * at).sum(1)
            total += float(joint.probs.flatten() @ surprise) / count / len(masks)
    return total


def every_mask(oracle: JointOracle, denoiser: Denoiser, t: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return all masks (2^L, L) and S(x, mask) at t for every sequence, shape (V^L, 2^L)."""
    masks = torch.tensor(list(itertools.product([False, True], repeat=oracle.length)))
    x0, count = oracle.sequences(), len(masks)
    rows = x0.repeat_interleave(count, 0)
    masked = masks.repeat(len(x0), 1)
    xt = rows.masked_fill(masked, oracle.mask_token_id)
    time = torch.full((len(xt),), t, dtype=torch.float64)
    nats = masked_cross_entropy(denoiser, xt, time, rows, masked)
    return masks, nats.view(len(x0), count)


def mask_law(masks: Tensor, hide: Tensor) -> Tensor:
    """Return the chance of every mask at mask probabilities ``hide`` (T,), shape (T, 2^L)."""
    return torch.where(masks, hide[:, None, None], 1 - hide[:, None, None]).prod(2)


# --- masks, a schedule for every token ---


def everything(joint: JointOracle, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return x_0 (R, L), masks (R, L) and times (R,) of all combinations, time slowest."""
    masks = torch.tensor(list(itertools.product([False, True], repeat=joint.length)))
    x0 = joint.sequences()
    rows = x0.repeat_interleave(len(masks), 0).repeat(len(t), 1)
    masked = masks.repeat(len(x0) * len(t), 1)
    return rows, masked, t.repeat_interleave(len(x0) * len(masks))


def anywhere(x0: Tensor) -> Tensor:
    return torch.ones_like(x0, dtype=torch.bool)


@dataclass(frozen=True, eq=False)
class Dealt(PerTokenProcess):
    """A process that deals the masks it was told to."""

    masked: Tensor | None = None

    def corrupt(self, x0, t, editable, generator):
        return Corrupted(x0.masked_fill(self.masked, self.mask_token_id), self.masked)


def chances(process: PerTokenProcess, x0: Tensor, masked: Tensor, t: Tensor) -> Tensor:
    return process.log_mask_pattern(x0, masked, t, anywhere(x0)).exp()


def nodes(count: int = 80) -> tuple[Tensor, Tensor]:
    """Return times in (0, 1) and their weights: Gauss and Legendre's in t^(1/8).

    A weight of t^(-1/2), which an exponent of 1/2 has, is smooth in that variable.
    """
    node, width = (torch.tensor(x) for x in np.polynomial.legendre.leggauss(count))
    r = (node + 1) / 2
    return r**8, 4 * r**7 * width


def tokenwise_bound(
    joint: JointOracle, schedule: TokenSchedule, denoiser=None, first_time: float = EARLY
) -> Tensor:
    """Return the continuous-time bound of every sequence, shape (V^L,), by enumeration."""
    u, width = nodes()
    x0, masked, t = everything(joint, u)
    process = Dealt(schedule, joint.mask_token_id, masked=masked)
    denoiser = denoiser or TokenwiseOracle(joint, process)
    loss = tokenwise_nelbo(
        denoiser, process, x0, t, anywhere(x0), generator(0), first_time=first_time
    )
    chance = chances(process, x0, masked, first_time + (1 - first_time) * t)
    shape = (len(u), joint.probs.numel(), -1)
    diffusion = (width[:, None] * (chance * loss.diffusion).view(shape).sum(2)).sum(0)
    ends = (loss.reconstruction + loss.prior).view(shape)[0, :, 0]
    return (diffusion + ends).detach()


def tokenwise_last_step_bound(
    joint: JointOracle, process: PerTokenProcess, nelbo, first_time: float
) -> Tensor:
    """Return the bound of every sequence that ends in one step from ``first_time``, (V^L,).

    Args:
        joint: The distribution, whose exact guess is bounded.
        process: The forward process.
        nelbo: ``tokenwise_last_step_nelbo`` with this first time.
        first_time: The start of the last step, drawn as often as it is long.
    """
    u, width = nodes()
    u = torch.cat([first_time + (1 - first_time) * u, u.new_tensor([first_time / 2])])
    width = torch.cat([(1 - first_time) * width, width.new_tensor([first_time])])
    x0, masked, t = everything(joint, u)
    dealt = Dealt(process.schedule, joint.mask_token_id, masked=masked)
    oracle = TokenwiseOracle(joint, dealt)
    loss = nelbo(oracle, process=dealt, x0=x0, t=t, editable=anywhere(x0), generator=generator(0))
    chance = chances(dealt, x0, masked, t.clamp_min(first_time))
    shape = (len(u), joint.probs.numel(), -1)
    diffusion = (width[:, None] * (chance * loss.diffusion).view(shape).sum(2)).sum(0)
    return (diffusion + (loss.reconstruction + loss.prior).view(shape)[0, :, 0]).detach()


def tokenwise_steps_bound(
    joint: JointOracle, schedule: TokenSchedule, num_steps: int, denoiser=None, grid=None
) -> Tensor:
    """Return the T-step bound of every sequence, shape (V^L,), with the oracle if no other."""
    even = time_grid(num_steps)
    when = even if grid is None else grid
    x0, masked, now = everything(joint, when[:-1])
    process = Dealt(schedule, joint.mask_token_id, masked=masked)
    denoiser = denoiser or TokenwiseOracle(joint, process)
    # Any time of a stratum picks its step.
    t = even[:-1].repeat_interleave(len(x0) // num_steps) - 0.5 / num_steps
    loss = tokenwise_discrete_nelbo(
        denoiser, process, x0, t, num_steps, anywhere(x0), generator(0), grid=grid
    )
    chance = chances(process, x0, masked, now)
    return (chance * loss.nats).view(num_steps, joint.probs.numel(), -1).sum((0, 2)) / num_steps


# --- tokens that turn into others ---


class Prescribed:
    """A process whose noised rows are given, so that a bound is summed and not sampled."""

    def __init__(self, inner, xt: Tensor) -> None:
        self.inner, self.xt = inner, xt

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def corrupt(self, x0, t, editable, generator):
        return Corrupted(self.xt, editable)


def sequences(process, length: int) -> Tensor:
    return torch.cartesian_prod(*[process.data_ids] * length).view(-1, length)


def summed(nelbo, process, denoiser, length: int, t: Tensor, weight: Tensor) -> Tensor:
    """Return the bound of every sequence, by summing over times and noised sequences."""
    states = sequences(process, length)
    count = len(states)
    when, clean, noised = (
        x.flatten()
        for x in torch.meshgrid(*map(torch.arange, (len(t), count, count)), indexing="ij")
    )
    x0, xt, now = states[clean], states[noised], t[when]
    everywhere = torch.ones_like(x0, dtype=torch.bool)
    loss = nelbo(denoiser, Prescribed(process, xt), x0, now, everywhere, generator(0))
    law = process.log_forward(x0.flatten(), now.repeat_interleave(length)).exp()
    law = law.gather(1, process.places(xt).view(-1, 1)).view(-1, length).prod(1)
    over_time = (weight[when] * law * loss.diffusion).view(len(t), count, count).sum((0, 2))
    return over_time + (loss.prior + loss.reconstruction).view(-1, count, count)[0, :, 0]


def transition_bound(process, denoiser, length: int, steps: int) -> Tensor:
    def nelbo(denoiser, process, x0, t, editable, generator):
        # Any time of an interval counts as its end, which rounding might push into the next.
        t = t - 0.5 / steps
        return transition_nelbo(denoiser, process, x0, t, steps, editable, generator)

    grid = time_grid(steps)[:-1]
    return summed(nelbo, process, denoiser, length, grid, torch.full_like(grid, 1 / steps))


def uniform_bound(process, denoiser, length: int, nodes: int = 60) -> Tensor:
    node, width = (torch.tensor(x) for x in np.polynomial.legendre.leggauss(nodes))
    # Nodes in the cube root of t: near 0 the bound moves like t log t.
    r = (node + 1) / 2
    return summed(uniform_nelbo, process, denoiser, length, r**3, 1.5 * r**2 * width)


def expected(joint: JointOracle, bounds: Tensor) -> float:
    return float(joint.probs.flatten() @ bounds)


# --- masks, block by block ---


@torch.no_grad()
def block_bound(denoiser: BlockDenoiser, joint: JointOracle, block_length: int, start=()) -> float:
    """Return the bound of blocks by enumeration of all sequences and all masks of each block.

    Args:
        denoiser: The network.
        joint: The law of what follows the start symbols.
        block_length: L', counted from the start symbols.
        start: Ids that every row begins with.
    """
    data = joint.sequences()
    x0 = torch.cat([torch.tensor([list(start)] * len(data), dtype=torch.int64), data], 1)
    total = 0.0
    for first in range(0, x0.shape[1], block_length):
        stop = min(first + block_length, x0.shape[1])
        places = range(max(first, len(start)), stop)
        for count in range(1, len(places) + 1):
            masks = list(itertools.combinations(places, count))
            for hidden in masks:
                at = torch.zeros_like(x0, dtype=torch.bool)
                at[:, list(hidden)] = True
                logits = denoiser(x0.masked_fill(at, joint.mask_token_id), x0)
                right = logits.double().log_softmax(-1).gather(2, x0[..., None])[..., 0]
                surprise = -(right.masked_fill(~at, 0)).sum(1)
                total += float(joint.probs.flatten() @ surprise) / count / len(masks)
    return total

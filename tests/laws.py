"""Running a sampler on an exact denoiser, and laws that are multiplied out instead of sampled."""

import math
from itertools import pairwise, product

import torch
from torch import Tensor

from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import Polynomial, Schedule
from unmask.diffusion.schedules.grids import time_grid
from unmask.evaluation.oracles.joint import JointOracle
from unmask.sampling.canvas import Canvas, Frame
from unmask.sampling.policies.base import Clock, Past, Policy, Prediction
from unmask.sampling.policies.confidence_scores import confidence_score
from unmask.sampling.sampler import sample
from unmask.sampling.samplers.registry import SAMPLERS
from unmask.sampling.token_sampling import Draw

CHAINS = [name for name, kind in SAMPLERS.items() if "burn_in" in kind.options()]
"""Samplers that draw one position anew per step, so that they need more steps than tokens."""


def run(
    oracle,
    policy: Policy,
    rows: list[list[int | None]],
    grid: Tensor,
    draw=None,
    schedule: Schedule | None = None,
    seed: int = 0,
) -> list[Frame]:
    """Return all frames of a sampler; row i has the seed ``seed + i``."""
    mask = oracle.mask_token_id
    canvas = Canvas.from_rows(rows, mask, mask)
    process = AbsorbingProcess(schedule or Polynomial(), mask)
    rng = RowRng(torch.arange(len(rows)) + seed)
    return list(sample(oracle, process, canvas, policy, draw or Draw(), grid, rng))


def blank(oracle: JointOracle, rows: int = 1) -> list[list[int | None]]:
    return [[None] * oracle.length] * rows


def counts_of(ids: Tensor, vocab_size: int) -> Tensor:
    """Return how often each sequence occurs, shape (V^L,), in the order of ``probs.flatten()``."""
    stride = vocab_size ** torch.arange(ids.shape[1] - 1, -1, -1)
    return (ids * stride).sum(1).bincount(minlength=vocab_size ** ids.shape[1])


def divergence(p: Tensor, q: Tensor) -> float:
    """Return KL(p || q) in nats."""
    p, q = p.flatten(), q.flatten()
    return float((p * (p / q).log())[p > 0].sum())


def law_of_steps(oracle: JointOracle, steps: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the law of a sampler that decides by chance alone, from its transition matrices.

    Args:
        oracle: The exact denoiser.
        steps: For each step the probability of revealing a mask and of masking a token.
    """
    size, length = oracle.vocab_size + 1, oracle.length
    states = torch.cartesian_prod(*[torch.arange(size)] * length)
    hidden = (states == size - 1)[..., None]
    prediction = oracle(states, torch.ones(len(states))).exp()
    law = torch.zeros(len(states), dtype=torch.float64)
    law[-1] = 1  # All masked.
    for reveal, hide in steps:
        outcome = torch.where(hidden, reveal, 1 - hide) * prediction
        mask = torch.where(hidden, 1 - reveal, hide)
        table = torch.cat([outcome, mask.double()], -1)  # (states, L, V + 1)
        step = torch.ones(len(states), len(states), dtype=torch.float64)
        for i in range(length):
            step *= table[:, i, states[:, i]]
        law = law @ step
    assert float(law[hidden.any(1)[:, 0]].sum()) < 1e-12
    return law[~hidden.any(1)[:, 0]]


def ancestral_law(oracle: JointOracle, process: AbsorbingProcess, grid: Tensor) -> Tensor:
    """Return the law of ancestral sampling on a grid, as draws among all V + 1 outcomes."""
    none = torch.tensor(0.0, dtype=torch.float64)
    return law_of_steps(oracle, [(process.reveal_prob(t, s), none) for t, s in pairwise(grid)])


def law_of_path(oracle: JointOracle, policy: Policy) -> tuple[Tensor, Tensor]:
    """Return the law of a policy that is settled by what is visible, and its calls, each (V^L,).

    Every sequence is followed on its own path: what is revealed next depends on what is visible,
    and has the product of the conditionals given that.
    """
    x0 = oracle.sequences()
    mask = oracle.mask_token_id
    everything = torch.ones_like(x0, dtype=torch.bool)
    canvas = Canvas(torch.full_like(x0, mask), everything, everything, everything)
    log_law = torch.zeros(len(x0), dtype=torch.float64)
    calls = torch.zeros(len(x0), dtype=torch.float64)
    t, s = time_grid(100)[:2]
    rng = RowRng(torch.zeros(len(x0)).long())
    for step in range(oracle.length):
        process = AbsorbingProcess(Polynomial(), mask)
        clock = Clock(step, t, s, process, last=False, past=Past.of(canvas))
        wanted = policy.candidates(canvas, clock, rng)
        logits = oracle(canvas.ids, torch.ones(len(x0)))
        sure = torch.full(x0.shape, -torch.inf)
        if policy.reads is not None:
            of_wanted = confidence_score(policy.reads, logits[wanted], logits[wanted].argmax(1))
            sure = sure.masked_scatter(wanted, of_wanted)
        move = policy.choose(canvas, wanted, Prediction(logits.argmax(2), sure, sure), clock, rng)
        own = logits.gather(2, x0[..., None])[..., 0]
        log_law += torch.where(move.reveal, own, 0).sum(1)
        calls += canvas.masked.any(1)
        canvas = canvas.reveal(move.reveal, x0)
    assert not canvas.masked.any()
    return log_law.exp(), calls


class LeaveOneOut:
    """An exact denoiser that does not see the queried token: p(x_i | all others)."""

    def __init__(self, oracle: JointOracle) -> None:
        self.oracle = oracle
        self.vocab_size, self.data_ids = oracle.vocab_size, oracle.data_ids
        self.length, self.mask_token_id = oracle.length, oracle.mask_token_id

    def __call__(self, xt, t, *, at=None, valid=None):
        columns = []
        for i in range(xt.shape[1]):
            here = torch.arange(xt.shape[1]) == i
            unseen = xt.masked_fill(here, self.mask_token_id)
            columns.append(self.oracle(unseen, t, valid=valid)[:, i])
        logits = torch.stack(columns, 1)
        return logits if at is None else logits[at]


def gaussian_step(beta: float, levels: int) -> Tensor:
    """Return D3PM's matrix of one step on ordered levels, (K, K), entry by entry."""
    size, far = (levels - 1) ** 2 * beta, levels - 1
    total = sum(math.exp(-4 * n * n / size) for n in range(-far, far + 1))
    matrix = torch.zeros(levels, levels, dtype=torch.float64)
    for i, j in product(range(levels), repeat=2):
        if i != j:
            matrix[i, j] = math.exp(-4 * (i - j) ** 2 / size) / total
    for i in range(levels):
        matrix[i, i] = 1 - matrix[i].sum()
    return matrix


def gaussian_chain(betas: Tensor, levels: int, start: int = 0, end: int | None = None) -> Tensor:
    """Return q(x_end | x_start), rows x_start, as the product of single steps, (K, K)."""
    matrix = torch.eye(levels, dtype=torch.float64)
    for beta in betas.tolist()[start:end]:
        matrix = matrix @ gaussian_step(beta, levels)
    return matrix

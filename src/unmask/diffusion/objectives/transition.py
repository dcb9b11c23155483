r"""Objectives of processes in which a token turns into another token (uniform, Gaussian noise).

With a prediction g(x_0) of each token from the other positions, the model's step from t to s is

    p(x_s | x_t) = q(x_t | x_s) sum over x_0 of g(x_0) q(x_s | x_0),    normalised,

D3PM's "joint" parametrisation. Its best g is the leave-one-out posterior: g must not be conditioned
on the token at its own position, because q(x_t | x_s) already is. Two functions:

    transition_nelbo      the T-step bound, for every TransitionProcess
    uniform_nelbo         the limit of T -> infinity, for uniform noise

Every editable position contributes at every time, not just the masked ones.

References: Austin et al. 2021, arXiv:2107.03006, Eq. 1 and 5; Schiff et al. 2024, "Simple Guidance
Mechanisms for Discrete Diffusion Models" (UDLM), arXiv:2412.10193; Sahoo et al. 2025, "The
Diffusion Duality" (Duo), arXiv:2506.10892.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser
from unmask.diffusion.objectives.masked import Loss
from unmask.diffusion.processes.base import TransitionProcess
from unmask.diffusion.processes.uniform import UniformProcess
from unmask.diffusion.rng import Generator
from unmask.diffusion.schedules.grids import grid_step


def transition_nelbo(
    denoiser: Denoiser,
    process: TransitionProcess,
    x0: Tensor,
    t: Tensor,
    num_steps: int,
    editable: Tensor,
    generator: Generator,
    valid: Tensor | None = None,
    grid: Tensor | None = None,
) -> Loss:
    """Estimate the T-step bound from one noised copy of every row.

        nats = T KL(q(x_s | x_t, x_0) || p(x_s | x_t)) + KL(q(x_1 | x_0) || pure noise)

    summed over editable positions, at a time t of the grid drawn uniformly, s the next one towards
    0. At s = 0 the first term is -log p(x_0 | x_t), the reconstruction.

    Args:
        denoiser: The network; its logits are those of g.
        process: The forward process.
        x0: Clean ids, shape (B, L), int64; data ids where editable.
        t: Uniform times in (0, 1], shape (B,); each picks a step, see
            ``schedules.grids.grid_step``.
        num_steps: T, at least 1; for a ``GaussianProcess`` its own T or a divisor of it.
        editable: Shape (B, L), bool; the positions that are modelled. The rest is given.
        generator: Source of randomness.
        valid: Shape (B, L), bool; False on padding.
        grid: The T + 1 times of the sampler, from 1 down to 0, float64; None for equal steps. For a
            ``GaussianProcess`` only times of its own.

    Returns:
        Nats per sequence, with -log g(x_0) over all editable positions as ``cross_entropy``, and
        editable tokens per sequence. D3PM's hybrid loss is nats / T + weight * cross_entropy, with
        weights around 0.001: relative to the whole bound the weight is multiplied by T. The minimum
        of the cross-entropy alone is the full posterior, which is not the best g.

    Reference: Austin et al. 2021, arXiv:2107.03006, Eq. 1 and 5.
    """
    now, before = grid_step(t, num_steps, grid)
    xt = process.corrupt(x0, now, editable, generator).ids
    prediction = _log_prediction(denoiser, process, xt, now, editable, valid)  # (N, K)
    row = editable.nonzero()[:, 0]
    clean, current = x0[editable], now[row]
    like = process.log_likelihood(xt[editable], current, before[row], prediction.dtype)
    truth = torch.log_softmax(like + process.log_forward(clean, before[row], prediction.dtype), 1)
    model = torch.log_softmax(like + process.log_spread(prediction, before[row]), 1)
    return _loss(process, num_steps * _divergence(truth, model), prediction, x0, editable)


def uniform_nelbo(
    denoiser: Denoiser,
    process: UniformProcess,
    x0: Tensor,
    t: Tensor,
    editable: Tensor,
    generator: Generator,
    valid: Tensor | None = None,
) -> Loss:
    """Estimate the continuous-time bound for uniform noise from one noised copy of every row.

        nats = -alpha'(t) / (K alpha(t)) * sum over ids j of  r_j log(r_j / rho_j) - r_j + rho_j
        r_j = q(x_t = j | x_0) / q(x_t = z | x_0),    rho_j the same with g in place of x_0

    with z the token of x_t, summed over editable positions: r_j is the rate at which the true
    reverse process turns z into j, rho_j that of the model. A schedule with alpha(0) < 1 adds the
    reconstruction from x_t at t = 0 without context, one with alpha(1) > 0 a prior term.

    Args:
        t: Uniform times in (0, 1], shape (B,); see ``schedules.grids.stratified_times``.

    The other arguments and the result are those of ``transition_nelbo``.

    References: Schiff et al. 2024, arXiv:2412.10193, Section 4; Sahoo et al. 2025,
    arXiv:2506.10892.
    """
    t = t.double()
    xt = process.corrupt(x0, t, editable, generator).ids
    prediction = _log_prediction(denoiser, process, xt, t, editable, valid)  # (N, K)
    row = editable.nonzero()[:, 0]
    here, clean = process.places(xt[editable])[:, None], x0[editable]
    truth = process.log_forward(clean, t[row], prediction.dtype)
    model = process.log_spread(prediction, t[row])
    gap = _divergence(truth - truth.gather(1, here), model - model.gather(1, here))
    alpha, count = process.schedule.alpha(t), len(process.data_ids)
    # As alpha goes to 0 the sum vanishes as its square.
    weight = torch.where(alpha > 0, -process.schedule.dalpha(t) / (count * alpha), 0.0)
    loss = _loss(process, weight.to(gap.dtype)[row] * gap, prediction, x0, editable)
    return replace(loss, reconstruction=loss.tokens.to(gap.dtype) * _never_clean(process))


def _log_prediction(
    denoiser: Denoiser,
    process: TransitionProcess,
    xt: Tensor,
    t: Tensor,
    editable: Tensor,
    valid: Tensor | None,
) -> Tensor:
    """Return log g over the data ids at the editable positions, shape (N, K), float32 or 64."""
    logits = denoiser(xt, t, at=editable, valid=valid)[:, process.data_ids]
    return torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), 1)


def _divergence(log_q: Tensor, log_p: Tensor) -> Tensor:
    """Return sum of q log(q / p) - q + p over the last axis: KL, also of unnormalised q and p.

    The two sums, which cancel for normalised q and p, cancel the rounding of log p to first order.
    """
    q, p = log_q.exp(), log_p.exp()
    gap = (log_q - log_p).masked_fill(q == 0, 0)
    return (q * gap - q + p).sum(-1)


def _loss(
    process: TransitionProcess, nats: Tensor, prediction: Tensor, x0: Tensor, editable: Tensor
) -> Loss:
    """Sum nats (N,), the cross-entropy of the prediction (N, K) and the prior term per sequence."""
    row, clean = editable.nonzero()[:, 0], x0[editable]

    def per_sequence(values: Tensor) -> Tensor:
        return nats.new_zeros(len(x0)).index_add(0, row, values.to(nats.dtype))

    cross_entropy = -prediction.gather(1, process.places(clean)[:, None])[:, 0]
    diffusion, prior = per_sequence(nats), per_sequence(process.prior_nats(clean))
    zero = torch.zeros_like(diffusion)
    return Loss(diffusion, zero, prior, editable.sum(1), per_sequence(cross_entropy))


def _never_clean(process: UniformProcess) -> float:
    """Return the entropy of a token given its noised version at t = 0, in nats."""
    count = len(process.data_ids)
    redrawn = process.schedule.mask_prob(torch.zeros((), dtype=torch.float64)) / count
    other = torch.xlogy(redrawn, redrawn) * (count - 1)
    same = 1 - redrawn * (count - 1)
    return -float(torch.xlogy(same, same) + other)

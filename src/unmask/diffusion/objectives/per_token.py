r"""Masked-diffusion objectives with a schedule for every vocabulary entry.

With r_v = -alpha_v' / (1 - alpha_v), mu the prediction at a masked position and x its token, the
negative log-likelihood is at most

    int_0^1 E sum over masked positions of  [ sum_v r_v mu_v - r_x - r_x log mu_x ]  dt.

The first two terms compare the rate at which the model reveals masks with that of the true reverse
process. They vanish if all schedules are equal, which leaves the cross-entropy. Without them a
learned schedule could lower the "bound" below its target. The weight is infinite at t = 0, so the
integral starts at a time t_1; below t_1 the decoder has no context, mu_v ~ 1 - alpha_v(t_1).

    tokenwise_nelbo            continuous time
    tokenwise_last_step_nelbo  the same, but the network predicts the masks left at t_1: tighter,
                               for evaluation
    tokenwise_discrete_nelbo   T steps, which is larger and tends to the first (without t_1)
    rloo_nelbo                 continuous time, with an unbiased gradient for a learned schedule

References: Shi et al. 2024, arXiv:2406.04329, Section 6 and Appendix G; Kool et al. 2019, "Buy 4
REINFORCE Samples, Get a Baseline for Free!" (leave-one-out baseline).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser
from unmask.diffusion.objectives.fused import cost_and_mean
from unmask.diffusion.objectives.masked import Loss
from unmask.diffusion.processes.absorbing_per_token import PerTokenProcess
from unmask.diffusion.processes.base import Corrupted
from unmask.diffusion.rng import Generator
from unmask.diffusion.schedules.grids import grid_step
from unmask.validation import Option, real


def _predict(
    denoiser: Denoiser,
    noised: Corrupted,
    t: Tensor,
    x0: Tensor,
    table: Tensor,
    valid: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return -log mu_x in nats and sum_v table_v mu_v at the N masked positions, shape (N,) each.

    In float32, or float64 if the logits are.
    """
    logits = denoiser(noised.ids, t, at=noised.masked, valid=valid)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    masked = noised.masked
    return cost_and_mean(logits, x0[masked], table.to(logits.dtype), masked.sum(1))


def _at_truth(table: Tensor, x0: Tensor, masked: Tensor) -> Tensor:
    """Return table (B, V) at the token under each mask, shape (N,)."""
    return table.gather(1, x0)[masked]


def integrand(
    denoiser: Denoiser,
    process: PerTokenProcess,
    x0: Tensor,
    noised: Corrupted,
    t: Tensor,
    valid: Tensor | None = None,
) -> Tensor:
    """Return the integrand of the bound for given masks: nats per unit of time, shape (B,).

        sum over masked positions of  sum_v r_v mu_v - r_x - r_x log mu_x    >= 0

    Args:
        denoiser: The network.
        process: The forward process.
        x0: Clean ids, shape (B, L), int64.
        noised: The masks, as ``processes.absorbing.corrupt`` draws them.
        t: Times in (0, 1], shape (B,).
        valid: Shape (B, L), bool; False on padding.
    """
    return _integrand(denoiser, process.schedule.rate(t.double()), x0, noised, t, valid)


def _integrand(
    denoiser: Denoiser,
    rate: Tensor,
    x0: Tensor,
    noised: Corrupted,
    t: Tensor,
    valid: Tensor | None,
) -> Tensor:
    """Return ``integrand`` for a table of the rates r_v of each row, (B, V)."""
    # mu sums to 1, so a constant added to all rates drops out of sum_v r_v mu_v - r_x. Subtracting
    # it first avoids a difference of large numbers, and gives exactly 0 if all rates are equal.
    excess = rate - rate[:, :1]
    nats, mean = _predict(denoiser, noised, t, x0, excess, valid)
    truth = _at_truth(rate.to(nats.dtype), x0, noised.masked) * nats
    truth = truth - _at_truth(excess.to(nats.dtype), x0, noised.masked)
    row = noised.masked.nonzero()[:, 0]
    return nats.new_zeros(len(x0)).index_add(0, row, mean + truth)


class Step(NamedTuple):
    """One step of the T-step bound: its ``kl`` and the plain ``cross_entropy``, nats, (B,) each."""

    kl: Tensor
    cross_entropy: Tensor


def step_kl(
    denoiser: Denoiser,
    process: PerTokenProcess,
    x0: Tensor,
    noised: Corrupted,
    t: Tensor,
    s: Tensor,
    valid: Tensor | None = None,
) -> Step:
    """Return KL(q(x_s | x_t, x_0) || p(x_s | x_t)) for given masks, in nats per sequence.

        sum over masked positions of
        -rho_x log mu_x + (1 - rho_x) log[ (1 - rho_x) / sum_v mu_v (1 - rho_v) ]

    At s = 0 all rho are 1: the reconstruction, -log mu_x.

    Args:
        t: Times in (0, 1], shape (B,).
        s: Earlier times, 0 <= s < t, shape (B,).

    The other arguments are those of ``integrand``.
    """
    stay = process.stay_prob(t, s)
    nats, stay_model = _predict(denoiser, noised, t, x0, stay, valid)
    row = noised.masked.nonzero()[:, 0]
    reveal_truth = _at_truth(1 - stay, x0, noised.masked).to(nats.dtype)
    stay_truth = _at_truth(stay.to(nats.dtype), x0, noised.masked)
    # A sum of positive numbers; 1 - sum_v mu_v rho_v would lose all digits for small steps.
    stay_model = stay_model.clamp_min(torch.finfo(nats.dtype).tiny)
    # At s = 0 no mask stays, and 0 log 0 = 0 must have a gradient.
    log_ratio = torch.where(stay_truth > 0, stay_truth / stay_model, 1).log()
    kl = reveal_truth * nats + stay_truth * log_ratio
    zero = nats.new_zeros(len(x0))
    return Step(zero.index_add(0, row, kl), zero.index_add(0, row, nats))


def _reconstruction(
    denoiser: Denoiser, process: PerTokenProcess, x0: Tensor, editable: Tensor, first_time: float
) -> Tensor:
    """Return E[-log p(x_0 | x_t1)] of the decoder without context, in nats, shape (B,), float64.

    sum over positions of m_x (log sum_v m_v - log m_x) with m = 1 - alpha(t_1), v over data ids.
    """
    m = process.schedule.mask_prob(editable.new_full((1,), first_time, dtype=torch.float64))[0]
    log_total = m[denoiser.data_ids].sum().log()
    table = m * log_total - torch.xlogy(m, m)
    return (table[x0] * editable).sum(1)


def _prior(denoiser: Denoiser, process: PerTokenProcess, x0: Tensor, editable: Tensor) -> Tensor:
    """Return KL(q(x_1 | x_0) || p(x_1)) in nats, shape (B,), float64: alpha(1) log V per token.

    At t = 1 a token is still visible with probability alpha(1), the same for all. p(x_1) is a mask
    with probability 1 - alpha(1), else uniform over the V data ids; the masks cancel.
    """
    visible = 1 - process.schedule.mask_prob(editable.new_ones(1, dtype=torch.float64))[0]
    return (visible[x0] * editable).sum(1) * math.log(len(denoiser.data_ids))


_FIRST = Option("", real, low=0, high=1, above=True, below=True)


def _times(t: Tensor, first_time: float) -> Tensor:
    """Map uniform times t in (0, 1] to (first_time, 1], float64."""
    _FIRST("first_time", first_time)
    return first_time + (1 - first_time) * t.double()


def tokenwise_nelbo(
    denoiser: Denoiser,
    process: PerTokenProcess,
    x0: Tensor,
    t: Tensor,
    editable: Tensor,
    generator: Generator,
    valid: Tensor | None = None,
    first_time: float = 1e-3,
) -> Loss:
    """Estimate the continuous-time bound from one noised copy of every row.

        nats = (1 - t_1) integrand(t) + reconstruction(t_1) + prior,    t uniform in (t_1, 1]

    Its gradient is unbiased for the denoiser. For a learned schedule the part from the mask pattern
    is missing: use ``rloo_nelbo``.

    Args:
        denoiser: The network.
        process: The forward process.
        x0: Clean ids, shape (B, L), int64.
        t: Times uniform in (0, 1], shape (B,); see ``schedules.grids.stratified_times``.
        editable: Shape (B, L), bool; the positions that are modelled, given the rest.
        generator: Source of randomness for the masks.
        valid: Shape (B, L), bool; False on padding.
        first_time: t_1, below which the decoder has no context.

    Returns:
        Nats per sequence in three parts and editable tokens per sequence.

    Reference: Shi et al. 2024, arXiv:2406.04329, Section 6. Their code omits the factor 1 - t_1.
    """
    time = _times(t, first_time)
    noised = process.corrupt(x0, time, editable, generator)
    diffusion = (1 - first_time) * integrand(denoiser, process, x0, noised, time, valid)
    return _loss(denoiser, process, x0, editable, diffusion, first_time)


def tokenwise_last_step_nelbo(
    denoiser: Denoiser,
    process: PerTokenProcess,
    x0: Tensor,
    t: Tensor,
    editable: Tensor,
    generator: torch.Generator,
    valid: Tensor | None = None,
    first_time: float = 1e-4,
) -> Loss:
    """Estimate the bound of a sampler: continuous time down to t_1, then one step to 0.

        nats = integrand(t)                                                 where t > t_1
               1 / t_1 * sum over masked positions of -log mu_x, at t_1     elsewhere

    plus the prior, t uniform in (0, 1]: the last step is drawn with the probability of its length,
    so one network call estimates both. In ``tokenwise_nelbo`` the decoder without context costs
    about t_1 log V nats per token. Here the network predicts these masks from the text, so they
    cost their cross-entropy, unless several tokens are masked at t_1, which is rare.

    Args:
        t: Times uniform in (0, 1], shape (B,); see ``schedules.grids.stratified_times``.
        first_time: t_1, the start of the last step. The step costs about the square of its mask
            rate in nats per token: 1e-8, or 1e-4 for a mask rate of t^(1/2).

    The other arguments are those of ``tokenwise_nelbo``.

    Returns:
        Nats per sequence, all in ``diffusion`` except the prior, and editable tokens per sequence.
    """
    _FIRST("first_time", first_time)
    time = t.double().clamp_min(first_time)
    noised = process.corrupt(x0, time, editable, generator)
    # With equal rates the integrand is the cross-entropy times that rate.
    last_step = (t <= first_time)[:, None]
    rate = torch.where(last_step, 1 / first_time, process.schedule.rate(time))
    diffusion = _integrand(denoiser, rate, x0, noised, time, valid)
    return _loss(denoiser, process, x0, editable, diffusion, first_time=None)


def _loss(
    denoiser: Denoiser,
    process: PerTokenProcess,
    x0: Tensor,
    editable: Tensor,
    diffusion: Tensor,
    first_time: float | None,
) -> Loss:
    """Add the terms at both ends of the unit interval to the integral over its inside, (B,)."""
    prior = _prior(denoiser, process, x0, editable).to(diffusion.dtype)
    if first_time is None:
        return Loss(diffusion, torch.zeros_like(diffusion), prior, editable.sum(1))
    reconstruction = _reconstruction(denoiser, process, x0, editable, first_time)
    return Loss(diffusion, reconstruction.to(diffusion.dtype), prior, editable.sum(1))


def tokenwise_discrete_nelbo(
    denoiser: Denoiser,
    process: PerTokenProcess,
    x0: Tensor,
    t: Tensor,
    num_steps: int,
    editable: Tensor,
    generator: Generator,
    valid: Tensor | None = None,
    grid: Tensor | None = None,
) -> Loss:
    """Estimate the T-step bound: T KL(q(x_s | x_t, x_0) || p(x_s | x_t)) at a random grid time t.

    The last step of a sampler, s = 0, is the reconstruction and counted in ``diffusion``.

    Args:
        t: Uniform times in (0, 1], shape (B,); each picks a step, see
            ``schedules.grids.grid_step``.
        num_steps: T, at least 1.
        grid: The T + 1 times of the sampler, from 1 down to 0, float64; see
            ``schedules.grids.time_grid`` and ``schedules.grids.given_grid``. None for
            equal steps.

    The other arguments and the result are those of ``tokenwise_nelbo``.

    References: Austin et al. 2021, arXiv:2107.03006, Section 3; He et al. 2022, arXiv:2211.15029.
    """
    now, before = grid_step(t, num_steps, grid)
    noised = process.corrupt(x0, now, editable, generator)
    step = step_kl(denoiser, process, x0, noised, now, before, valid)
    loss = _loss(denoiser, process, x0, editable, num_steps * step.kl, first_time=None)
    return replace(loss, cross_entropy=step.cross_entropy)


def rloo_nelbo(
    denoiser: Denoiser,
    process: PerTokenProcess,
    x0: Tensor,
    t: Tensor,
    editable: Tensor,
    generator: Generator,
    valid: Tensor | None = None,
    first_time: float = 1e-3,
) -> tuple[Loss, Tensor]:
    """Estimate the continuous-time bound from two noised copies, with a gradient for the schedule.

        surrogate = (l_1 + l_2) / 2 + (l_1 - l_2) / 2 * (log q(z_1 | x_0) - log q(z_2 | x_0))
                    + reconstruction + prior,    (l_1 - l_2) held constant

    The probability of the masks z depends on the schedule, so its gradient has a score part; each
    copy is the baseline of the other. The gradient of the surrogate is unbiased, and its value is
    that of the loss.

    The arguments are those of ``tokenwise_nelbo``; the network sees one batch of 2 B rows.

    Returns:
        The loss, averaged over both copies, without gradient; and the surrogate to minimise, (B,).

    Reference: Shi et al. 2024, arXiv:2406.04329, Section 6 (REINFORCE leave-one-out).
    """
    time = _times(t, first_time)
    rows, times, free = x0.repeat(2, 1), time.repeat(2), editable.repeat(2, 1)
    noised = process.corrupt(rows, times, free, generator)
    padded = None if valid is None else valid.repeat(2, 1)
    value = (1 - first_time) * integrand(denoiser, process, rows, noised, times, padded)
    score = process.log_mask_pattern(rows, noised.masked, times, free).to(value.dtype)
    (one, two), (score_one, score_two) = value.chunk(2), score.chunk(2)
    loss = _loss(denoiser, process, x0, editable, (one + two) / 2, first_time)
    # Adds the gradient of the score part with value 0, so that the logged value is the loss.
    score_part = (one - two).detach() / 2 * (score_one - score_two)
    surrogate = loss.nats + (score_part - score_part.detach())
    nats = (loss.diffusion.detach(), loss.reconstruction.detach(), loss.prior.detach())
    return Loss(nats[0], nats[1], nats[2], loss.tokens), surrogate

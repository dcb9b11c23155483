r"""Masked-diffusion objectives: the NELBO with one schedule for all tokens, and the MLM loss.

The negative log-likelihood of a sequence has an upper bound, the NELBO, in nats:

    -log p(x_0) <= int_0^1  -alpha'(t) / (1 - alpha(t))  E[ S(x_0, x_t) ] dt

with S the cross-entropy summed over masked positions. Substituting m = 1 - alpha(t) the schedule
drops out: the bound is the integral of the mean cross-entropy of a masked token over the mask rate
m, times the length. BERT's loss is one point of that curve, at m = 0.15.

Four unbiased estimators:

    continuous_nelbo      one time per row, weight -alpha' / (1 - alpha)
    discrete_nelbo        the T-step bound, which is larger and tends to the first
    exact_k_nelbo         exactly k masks, weight L / k, at a time drawn given k: lowest variance,
                          for evaluation
    masked_mean           cross-entropy at a given mask rate, unweighted: BERT, the RoBERTa blog

References: Shi et al. 2024, arXiv:2406.04329, Eq. 4-6; Sahoo et al. 2024, arXiv:2406.07524, Eq. 10;
Nie et al. 2025, "Large Language Diffusion Models", arXiv:2502.09992, Eq. 6 (exact k).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser, masked_cross_entropy, token_nats
from unmask.diffusion.processes.absorbing import AbsorbingProcess, bert_replacement
from unmask.diffusion.processes.base import Corrupted
from unmask.diffusion.rng import Generator
from unmask.diffusion.schedules.continuous import rate
from unmask.diffusion.schedules.grids import grid_step


@dataclass(frozen=True)
class Loss:
    """An estimate for every sequence, in nats.

    Attributes:
        diffusion: Shape (B,), the integral over time.
        reconstruction: Shape (B,), the term of a schedule with alpha(0) < 1; 0 if alpha(0) = 1.
        prior: Shape (B,), KL(q(x_1 | x_0) || p(x_1)); 0 for every schedule with alpha(1) = 0.
        tokens: Shape (B,), int64, the number of tokens that the estimate covers.
        cross_entropy: Shape (B,), the unweighted -log p(x_0 | x_t) summed over the predictions: not
            part of the bound, but added to it by D3PM's hybrid loss. None where no hybrid loss is
            defined.
    """

    diffusion: Tensor
    reconstruction: Tensor
    prior: Tensor
    tokens: Tensor
    cross_entropy: Tensor | None = None

    @property
    def nats(self) -> Tensor:
        """Total nats per sequence, shape (B,)."""
        return self.diffusion + self.reconstruction + self.prior

    @property
    def per_token(self) -> Tensor:
        """Nats per token over the whole batch, a scalar: sum of nats / sum of tokens."""
        return self.nats.sum() / self.tokens.sum().clamp_min(1)


def _loss(weight: Tensor | float, cross_entropy: Tensor, tokens: Tensor) -> Loss:
    zero = torch.zeros_like(cross_entropy)
    return Loss(weight * cross_entropy, zero, zero, tokens, cross_entropy)


def _with_ends(
    loss: Loss, denoiser: Denoiser, process: AbsorbingProcess, never_clean: float
) -> Loss:
    """Add the ends of the schedule, L (1 - alpha(0)) log V and L alpha(1) log V.

    Below t = 0 the decoder is uniform, as in MD4. At t = 1 a token is still visible with
    probability alpha(1); with p(x_1) a uniform token with that probability, else a mask, the KL is
    alpha(1) log V.
    """
    dims = loss.tokens.to(loss.diffusion.dtype) * math.log(len(denoiser.data_ids))
    visible = process.schedule.alpha(torch.ones((), dtype=torch.float64)).item()
    return replace(loss, reconstruction=dims * never_clean, prior=dims * visible)


def continuous_nelbo(
    denoiser: Denoiser,
    process: AbsorbingProcess,
    x0: Tensor,
    t: Tensor,
    editable: Tensor,
    generator: Generator,
    valid: Tensor | None = None,
) -> Loss:
    """Estimate the continuous-time bound from one noised copy of every row.

        nats = -alpha'(t) / (1 - alpha(t)) * S(x_0, x_t),    x_t ~ q(. | x_0)

    Args:
        denoiser: The network.
        process: The forward process.
        x0: Clean ids, shape (B, L), int64.
        t: Times uniform in (0, 1], shape (B,); see ``schedules.grids.stratified_times``.
        editable: Shape (B, L), bool; the positions that are modelled. The rest (prompt, start
            symbol, padding) stays visible: the bound is on the editable given the rest.
        generator: Source of randomness for the masks.
        valid: Shape (B, L), bool; False on padding.

    Returns:
        Nats per sequence and editable tokens per sequence.

    Reference: Shi et al. 2024, arXiv:2406.04329, Eq. 5. A schedule with alpha(0) < 1 adds MD4's
    reconstruction term with the uniform decoder, L (1 - alpha(0)) log V, one with alpha(1) > 0 the
    prior term L alpha(1) log V.
    """
    noised = process.corrupt(x0, t, editable, generator)
    cross_entropy = masked_cross_entropy(denoiser, noised.ids, t, x0, noised.masked, valid)
    never_clean = process.schedule.mask_prob(torch.zeros((), dtype=torch.float64)).item()
    weight = rate(process.schedule, t.double()).to(cross_entropy.dtype)
    loss = _loss(weight, cross_entropy, editable.sum(1))
    return _with_ends(loss, denoiser, process, never_clean)


def discrete_nelbo(
    denoiser: Denoiser,
    process: AbsorbingProcess,
    x0: Tensor,
    t: Tensor,
    num_steps: int,
    editable: Tensor,
    generator: Generator,
    valid: Tensor | None = None,
    grid: Tensor | None = None,
) -> Loss:
    """Estimate the T-step bound: T u(s, t) S(x_0, x_t) at a time t of the grid, drawn uniformly.

    The last step of a sampler, s = 0, has u = 1 and is the reconstruction term.

    Args:
        t: Uniform times in (0, 1], shape (B,); each picks a step, see
            ``schedules.grids.grid_step``.
        num_steps: T, at least 1.
        grid: The T + 1 times of the sampler, from 1 down to 0, float64; see
            ``schedules.grids.time_grid`` and ``schedules.grids.given_grid``. None for
            equal steps.

    The other arguments and the result are those of ``continuous_nelbo``.

    Reference: Austin et al. 2021, arXiv:2107.03006, Section 3; Shi et al. 2024, arXiv:2406.04329,
    Eq. 4.
    """
    now, before = grid_step(t, num_steps, grid)
    noised = process.corrupt(x0, now, editable, generator)
    cross_entropy = masked_cross_entropy(denoiser, noised.ids, now, x0, noised.masked, valid)
    weight = num_steps * process.reveal_prob(now, before)
    loss = _loss(weight.to(cross_entropy.dtype), cross_entropy, editable.sum(1))
    return _with_ends(loss, denoiser, process, 0.0)


def exact_k_nelbo(
    denoiser: Denoiser,
    process: AbsorbingProcess,
    x0: Tensor,
    t: Tensor,
    editable: Tensor,
    generator: Generator,
    valid: Tensor | None = None,
) -> Loss:
    r"""Estimate the continuous-time bound with exactly k masks, k uniform in 1..L.

        nats = L / k * S(x_0, x_0 with k random tokens masked at the mask rate m)
        k = ceil(L t),    m ~ Beta(k, L - k + 1)

    In terms of the mask rate the bound is the sum over k of

        int_0^1 dm / m  C(L, k) m^k (1 - m)^(L - k)  S_k(m) = 1 / k  E_{m ~ Beta(k, L-k+1)} S_k(m),

    with S_k(m) the mean cross-entropy of k masks for a network conditioned on the time of m. So the
    expectation is that of ``continuous_nelbo`` for every network and every schedule from 1 to 0,
    but the estimate is bounded, needs no clamp near t = 0, and has no variance if every token has
    the same cross-entropy.

    A schedule that does not reach its ends is used as a sampler does, which starts from masks alone
    and lets the network predict the masks left at t = 0: at t a token is masked with probability
    m(t) / m(1). So there is no reconstruction and no prior term.

    Args:
        t: Uniform times in (0, 1], shape (B,), from which k is derived.

    The other arguments and the result are those of ``continuous_nelbo``.
    """
    noised, time, weight = _mask_exactly(process, x0, t, editable, generator)
    cross_entropy = masked_cross_entropy(denoiser, noised.ids, time, x0, noised.masked, valid)
    return _loss(weight.to(cross_entropy.dtype), cross_entropy, editable.sum(1))


def exact_k_token_nats(
    denoiser: Denoiser,
    process: AbsorbingProcess,
    x0: Tensor,
    t: Tensor,
    editable: Tensor,
    generator: Generator,
    valid: Tensor | None = None,
) -> Tensor:
    """Estimate the contribution of every token to the bound of ``exact_k_nelbo``.

    The arguments are those of ``exact_k_nelbo``.

    Returns:
        Nats, shape (B, L), 0 where nothing was masked; they sum to the estimate of the row.
    """
    noised, time, weight = _mask_exactly(process, x0, t, editable, generator)
    logits = denoiser(noised.ids, time, at=noised.masked, valid=valid)
    nats = token_nats(logits, x0, noised.masked)
    return weight[:, None].to(nats.dtype) * nats


def _mask_exactly(
    process: AbsorbingProcess, x0: Tensor, t: Tensor, editable: Tensor, generator: Generator
) -> tuple[Corrupted, Tensor, Tensor]:
    """Return rows with k = ceil(L t) masks, their times, (B,), and weights L / k, (B,), float64."""
    tokens = editable.sum(1)
    count = torch.minimum(torch.ceil(t.double() * tokens).long().clamp_min(1), tokens)
    noised, time = process.corrupt_exactly(x0, count, editable, generator)
    return noised, time, tokens.double() / count.clamp_min(1)


def masked_mean(
    denoiser: Denoiser,
    process: AbsorbingProcess,
    x0: Tensor,
    mask_rate: float,
    editable: Tensor,
    generator: torch.Generator,
    valid: Tensor | None = None,
    eighty_ten_ten: bool = False,
) -> Loss:
    """Return the masked-language-model loss at one mask rate for the whole batch.

    ``per_token`` is the mean cross-entropy of a selected token: one point of the curve whose
    integral is the bound. Averaged over rates 0.1, 0.2, ... 1.0 it is the 10-step bound per token.

    Args:
        mask_rate: Probability in (0, 1] with which an editable token is selected.
        eighty_ten_ten: Replace the selected tokens by BERT's 80/10/10 rule, not by [MASK] alone.

    Returns:
        Nats per sequence summed over the selected tokens, and their number.

    References: Devlin et al. 2019, arXiv:1810.04805; N. Barry 2025, "BERT is just a single text
    diffusion step" (blog).
    """
    chance = torch.rand(x0.shape, dtype=torch.float64, generator=generator, device=x0.device)
    selected = (chance < mask_rate) & editable
    xt = x0.masked_fill(selected, process.mask_token_id)
    if eighty_ten_ten:
        ids = denoiser.data_ids
        xt = bert_replacement(x0, selected, process.mask_token_id, ids, generator)
    t = process.schedule.inverse(torch.full((len(x0),), 1.0 - mask_rate, dtype=torch.float64))
    cross_entropy = masked_cross_entropy(denoiser, xt, t.to(x0.device), x0, selected, valid)
    return _loss(1.0, cross_entropy, selected.sum(1))

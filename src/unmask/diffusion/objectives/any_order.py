r"""Any-order likelihood: exact in a given order of generation, a bound over random orders.

A network in which a position only attends to earlier positions of an order sigma is autoregressive
in that order, so the chain rule is exact, not a bound:

    -log p(x_0, sigma) = sum_i -log p(x_{sigma(i)} | x_{sigma(1)}, ..., x_{sigma(i-1)})

A uniform sigma gives the continuous-time bound of masked diffusion, with all noise levels of a row
in one network call: masking the last k tokens of a random order is masking k random tokens, and the
sum over k of the cross-entropy of the next token is the integral over time.

References: Uria et al. 2014, arXiv:1310.1757 (orderless training); Hoogeboom et al. 2021,
arXiv:2110.02037, Eq. 3 (order-agnostic bound); Yang et al. 2019, "XLNet", arXiv:1906.08237 (two
streams of attention); Sahoo et al. 2025, "Esoteric Language Models", arXiv:2506.01928.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unmask.diffusion.denoiser import OrderedDenoiser, token_nats
from unmask.diffusion.objectives.masked import Loss
from unmask.diffusion.rng import Generator, uniform


def random_ranks(editable: Tensor, valid: Tensor | None, generator: Generator) -> Tensor:
    """Return a random order of each row, shape (B, L), int64: given tokens first, padding last."""
    u = uniform(editable.shape, generator, editable.device)
    u = torch.where(editable, u + 1, u)
    if valid is not None:
        u = u.masked_fill(~valid, 2)
    return u.argsort(dim=1, stable=True).argsort(1)


def order_token_nats(
    denoiser: OrderedDenoiser,
    x0: Tensor,
    rank: Tensor,
    editable: Tensor,
    valid: Tensor | None = None,
) -> Tensor:
    """Return -log p of every token given those before it, from one network call.

    Args:
        denoiser: A network that is conditioned on the order of generation.
        x0: Clean ids, shape (B, L), int64.
        rank: The order; see ``OrderedDenoiser.conditionals``. Given tokens must come first.
        editable: Shape (B, L), bool; the tokens that are modelled.
        valid: Shape (B, L), bool; False on padding.

    Returns:
        Nats, shape (B, L), float32 (float64 if the logits are float64).
    """
    return token_nats(denoiser.conditionals(x0, rank, editable, valid), x0, editable)


def order_nelbo(
    denoiser: OrderedDenoiser,
    x0: Tensor,
    t: Tensor,
    editable: Tensor,
    generator: Generator,
    valid: Tensor | None = None,
) -> Loss:
    """Estimate the bound by the likelihood in one random order per row.

    Args:
        t: Shape (B,). Only its device is used, because one order visits every noise level.

    The other arguments and the result are those of ``objectives.masked.continuous_nelbo``.
    """
    rank = random_ranks(editable, valid, generator).to(t.device)
    nats = order_token_nats(denoiser, x0, rank, editable, valid).sum(1)
    nothing = torch.zeros_like(nats)
    return Loss(nats, nothing, nothing, editable.sum(1))

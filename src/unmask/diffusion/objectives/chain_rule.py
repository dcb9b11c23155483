r"""Exact likelihoods by the chain rule in a fixed order of generation, token by token.

A sampler that generates one token per network call in an order sigma has the law

    -log p(x) = sum_i -log p(x_{sigma(i)} | x_{sigma(1)}, ..., x_{sigma(i-1)}),

so its likelihood is exact, not a bound: no noise level is drawn. It is the likelihood of that
sampler; an approximate network has a different one for every order.

    sequential_token_nats   any masked model: one row of a network call for every token
    block_token_nats        a block model: one network call for every position in a block
    pseudo_token_nats       every token given all others, which is not a likelihood

An any-order network computes all of them in one call, ``objectives.any_order.order_token_nats``.
All return nats per token, shape (B, L), 0 at positions that are not modelled.

References: Uria et al. 2014, arXiv:1310.1757 (orders of generation); Wang & Cho 2019,
arXiv:1902.04094, and Salazar et al. 2020, arXiv:1910.14659 (pseudo-likelihood).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from unmask.diffusion.denoiser import BlockDenoiser, Denoiser, token_nats
from unmask.diffusion.objectives.block import InContext, cut
from unmask.diffusion.processes.base import MaskingProcess
from unmask.errors import UserError, did_you_mean
from unmask.validation import whole

PAIRS = 256
"""Masked copies of rows in one network call."""


def left_to_right_ranks(editable: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the left-to-right order as ranks, (B, L), int64: given tokens first, padding last.

    Args:
        editable: Shape (B, L), bool; the tokens that are modelled.
        valid: Shape (B, L), bool; False on padding.
    """
    group = editable.long()
    if valid is not None:
        group = group.masked_fill(~valid, 2)
    return group.argsort(dim=1, stable=True).argsort(1)


ORDERS = ("left-to-right", "right-to-left")


def ranks(order: str | Sequence[int], editable: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return an order, given by name or by token indices, as ranks (B, L), int64.

    Args:
        order: A name in ``ORDERS``, or for rows of n editable tokens a permutation of 0 ... n - 1,
            first the token that is generated first.
        editable: Shape (B, L), bool; the tokens that are modelled.
        valid: Shape (B, L), bool; False on padding.

    Raises:
        UserError: If there is no such order, or it is not a permutation of the tokens.
    """
    forward = left_to_right_ranks(editable, valid)
    if order == "left-to-right":
        return forward
    given, count = (~editable if valid is None else valid & ~editable).sum(1), editable.sum(1)
    number = forward - given[:, None]
    if order == "right-to-left":
        return torch.where(editable, given[:, None] + count[:, None] - 1 - number, forward)
    if isinstance(order, str):
        raise UserError(f"unknown order {order!r}{did_you_mean(order, ORDERS)}")
    numbers = [whole("order", one) for one in order]
    if sorted(numbers) != list(range(len(numbers))) or bool((count != len(numbers)).any()):
        raise UserError(
            f"the order must name each of the {int(count[0])} tokens once, from 0 to "
            f"{int(count[0]) - 1}, and the text must fit in one row"
        )
    place = torch.tensor(numbers, device=editable.device).argsort()
    return torch.where(editable, given[:, None] + place[number.clamp(0, len(place) - 1)], forward)


def sequential_token_nats(
    denoiser: Denoiser,
    process: MaskingProcess,
    x0: Tensor,
    rank: Tensor,
    editable: Tensor,
    valid: Tensor | None = None,
) -> Tensor:
    """Return -log p of every token with itself and all tokens of later rank masked.

    The network runs on one copy of a row for each of its editable tokens. A time-conditioned
    network gets the time at which a sampler has that many masks, ``MaskingProcess.time_of``.

    Args:
        denoiser: The network.
        process: The forward process.
        x0: Clean ids, shape (B, L), int64.
        rank: Shape (B, L), int64; the rank of each position in the order of its row, all different.
            Tokens that are not editable are visible whatever their rank is.
        editable: Shape (B, L), bool; the tokens that are modelled.
        valid: Shape (B, L), bool; False on padding.

    Returns:
        Nats, shape (B, L), float32 (float64 if the logits are float64); no gradient.
    """

    def masked(row: Tensor, place: Tensor) -> Tensor:
        return editable[row] & (rank[row] >= rank[row, place][:, None])

    return _one_by_one(denoiser, process, x0, editable, valid, masked)


def pseudo_token_nats(
    denoiser: Denoiser,
    process: MaskingProcess,
    x0: Tensor,
    editable: Tensor,
    valid: Tensor | None = None,
) -> Tensor:
    """Return -log p of every token given all others: its sum is the pseudo-log-likelihood.

    It is neither a likelihood nor a bound, because it is not the law of any sampler: every token is
    visible when the others are predicted. It compares texts under one model, not models.

    The arguments and the result are those of ``sequential_token_nats``.

    References: Wang & Cho 2019, arXiv:1902.04094; Salazar et al. 2020, arXiv:1910.14659.
    """

    def masked(row: Tensor, place: Tensor) -> Tensor:
        return torch.arange(x0.shape[1], device=x0.device) == place[:, None]

    return _one_by_one(denoiser, process, x0, editable, valid, masked)


@torch.no_grad()
def _one_by_one(
    denoiser: Denoiser,
    process: MaskingProcess,
    x0: Tensor,
    editable: Tensor,
    valid: Tensor | None,
    masks: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Return -log p of every editable token, each predicted from a masked copy of its row.

    Args:
        masks: Maps the rows and positions of n tokens, (n,) each, to the positions to mask for the
            prediction of each token, shape (n, L), bool.
    """
    parts = []
    for row, place in zip(*(x.split(PAIRS) for x in editable.nonzero().T), strict=True):
        masked = masks(row, place)
        xt = x0[row].masked_fill(masked, process.mask_token_id)
        time = process.time_of(masked, editable[row])
        queried = torch.arange(x0.shape[1], device=x0.device) == place[:, None]
        real = None if valid is None else valid[row]
        logits = denoiser(xt, time, at=queried, valid=real)
        parts.append(token_nats(logits, x0[row], queried).sum(1))
    nats = torch.cat(parts)
    return nats.new_zeros(x0.shape).masked_scatter(editable, nats)


@torch.no_grad()
def block_token_nats(
    denoiser: BlockDenoiser,
    process: MaskingProcess,
    block_length: int,
    x0: Tensor,
    rank: Tensor,
    editable: Tensor,
    valid: Tensor | None = None,
) -> Tensor:
    """Return -log p of every token, block after block, with a given order in each block.

    Args:
        denoiser: A block model.
        block_length: L'.
        rank: The order within each block; the blocks are generated left to right.

    The other arguments and the result are those of ``sequential_token_nats``. One network call
    predicts one token of every block of a row.
    """
    network = InContext(denoiser, x0)
    clean, free = cut(x0, block_length), cut(editable, block_length)
    real = None if valid is None else cut(valid, block_length)
    last = rank.max() + 1
    turn = cut(rank, block_length).masked_fill(~free, last)
    turn = turn.argsort(1).argsort(1).masked_fill(~free, -1)
    total = torch.zeros((), device=x0.device).expand(clean.shape)
    for step in range(int(turn.max()) + 1):
        masked, queried = turn >= step, turn == step
        xt = clean.masked_fill(masked, process.mask_token_id)
        logits = network(xt, process.time_of(masked, free), at=queried, valid=real)
        nats = token_nats(logits, clean, queried)
        total = total.to(nats.dtype) + nats
    return total.view(len(x0), -1)[:, : x0.shape[1]]

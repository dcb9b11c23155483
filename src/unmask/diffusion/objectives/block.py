r"""Block diffusion objective: autoregressive over blocks, masked diffusion within each block.

    log p(x) = sum over blocks b of log p(x^b | x^1 ... x^(b-1)),   each bounded like a row

One token per block gives the autoregressive model, one block per row masked diffusion. The bound of
a block is any bound of ``objectives.masked``: it gets each block as a row, and ``InContext``
conditions the network on the blocks before it.

Block b covers the positions b L' to (b + 1) L' - 1, counted from the start symbol. All blocks are
complete: positions of the last one after the end of a text are masks that are not queried.

Reference: Arriola et al. 2025, "Block Diffusion: Interpolating Between Autoregressive and Diffusion
Language Models" (BD3-LM), arXiv:2503.09573.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from unmask.diffusion.denoiser import BlockDenoiser
from unmask.diffusion.objectives.masked import Loss
from unmask.diffusion.rng import Generator, uniform


@dataclass(frozen=True)
class InContext:
    """All blocks of a batch as rows of an ordinary denoiser, shape (B n, L').

    Args:
        inner: The network.
        x0: The clean rows of the blocks, shape (B, L).
    """

    inner: BlockDenoiser
    x0: Tensor

    @property
    def vocab_size(self) -> int:
        return self.inner.vocab_size

    @property
    def data_ids(self) -> Tensor:
        return self.inner.data_ids

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits of p(x_0^b | x_t^b, clean blocks before it), (N, V); see ``Denoiser``."""
        where = torch.ones_like(xt, dtype=torch.bool) if at is None else at
        rows = (None if x is None else self._rows(x) for x in (xt, where, valid))
        noised, queried, real = rows
        assert noised is not None
        logits = self.inner(noised, self.x0, at=queried, valid=real)
        return logits if at is not None else logits.view(*xt.shape, -1)

    def _rows(self, blocks: Tensor) -> Tensor:
        return blocks.reshape(len(self.x0), -1)[:, : self.x0.shape[1]]


def cut(rows: Tensor, block_length: int) -> Tensor:
    """Return the blocks of all rows, (B, L) -> (B n, L'), the last of a row padded with 0."""
    return pad(rows, (0, -rows.shape[1] % block_length)).reshape(-1, block_length)


def block_times(t: Tensor, count: int, generator: Generator) -> Tensor:
    r"""Derive the times of the blocks from the times of their rows.

        t_(i,b) = (t_i + pi_i(b)) / n,   pi_i a random permutation of 0 ... n - 1 for each row

    If the t_i are stratified (``schedules.grids.stratified_times``), the B n times are, over the
    batch and within each row. Each is uniform: because of the permutation no block has a stratum of
    its own.

    Args:
        t: Shape (B,), uniform in (0, 1].
        count: Blocks in a row, n.
        generator: Source of the permutations; not used for a single block.

    Returns:
        float64 times in (0, 1], shape (B, n).
    """
    if count == 1:
        return t.double()[:, None]
    u = uniform((len(t), count), generator, generator.device)
    return (t.double()[:, None] + u.argsort(1)) / count


def block_nelbo(
    denoiser: BlockDenoiser,
    bound: Callable[..., Loss],
    block_length: int,
    x0: Tensor,
    t: Tensor,
    editable: Tensor,
    generator: Generator,
    valid: Tensor | None = None,
    interval: tuple[float, float] = (0.0, 1.0),
) -> Loss:
    """Estimate the bound of every row as the sum over its blocks, in one network call.

        nats = sum over b of bound(x_0^b; x_0^1 ... x_0^(b-1)),   each block at its own time

    Args:
        denoiser: The network.
        bound: A bound of ``objectives.masked``, with its process.
        block_length: L'.
        x0: Clean ids, shape (B, L), int64.
        t: Times uniform in (0, 1], shape (B,); see ``block_times``.
        editable: Shape (B, L), bool; the positions that are modelled. The rest is visible.
        generator: Source of randomness.
        valid: Shape (B, L), bool; False on padding at the right.
        interval: The part of [0, 1] from which times are drawn. If it is not all of it, the result
            is not a bound, but a training loss of lower variance.

    Returns:
        Nats and editable tokens per row.

    Reference: Arriola et al. 2025, arXiv:2503.09573 (the bound; clipped schedules).
    """
    low, high = interval
    times = block_times(t, -(-x0.shape[1] // block_length), generator)
    loss = bound(
        InContext(denoiser, x0),
        x0=cut(x0, block_length),
        t=(low + (high - low) * times).flatten(),
        editable=cut(editable, block_length),
        generator=generator,
        valid=None if valid is None else cut(valid, block_length),
    )

    def total(blocks: Tensor) -> Tensor:
        return blocks.view(len(x0), -1).sum(1)

    return Loss(
        diffusion=total(loss.diffusion),
        reconstruction=total(loss.reconstruction),
        prior=total(loss.prior),
        tokens=total(loss.tokens),
        cross_entropy=None if loss.cross_entropy is None else total(loss.cross_entropy),
    )

"""An exact block denoiser of a joint distribution.

As with the oracles of ``oracles.joint``, the bound must equal the entropy, for every block length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unmask.evaluation.oracles.joint import JointOracle


class BlockOracle:
    """Exact conditionals of the blocks of a joint; a ``BlockDenoiser``.

    Args:
        joint: The distribution of clean sequences.
        block_length: L'; the last block of a sequence may be shorter.
    """

    def __init__(self, joint: JointOracle, block_length: int) -> None:
        self.joint, self.block_length = joint, block_length
        self.vocab_size, self.data_ids = joint.vocab_size, joint.data_ids
        self.mask_token_id = joint.mask_token_id

    def __call__(
        self, xt: Tensor, x0: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return log p(x_i | noised block of i, clean blocks before it), (N, V) or (B, L, V)."""
        context, parts = self.context(), []
        for first in range(0, xt.shape[1], self.block_length):
            columns = slice(first, first + self.block_length)
            real = None if valid is None else valid[:, columns]
            parts.append(context(xt[:, columns], torch.ones(len(xt)), valid=real))
            context.append(x0[:, columns])
        logits = torch.cat(parts, 1)
        return logits if at is None else logits[at]

    def context(self, cached: bool = True) -> _ExactContext:
        """Return an empty context; there is nothing to cache."""
        return _ExactContext(self)


class _ExactContext:
    """The clean blocks so far; positions after the present block count as masked."""

    def __init__(self, oracle: BlockOracle) -> None:
        self._oracle = oracle
        self.vocab_size, self.data_ids = oracle.vocab_size, oracle.data_ids
        self._blocks: list[Tensor] = []

    def append(self, block: Tensor) -> None:
        """Add a finished block to the context."""
        self._blocks.append(block)

    def keep(self, rows: Tensor) -> None:
        """Keep all rows, since dropping them would save nothing."""

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return log p(x_i | the block, the blocks before it), (N, V) or (B, L', V), float64."""
        xt = xt if valid is None else xt.masked_fill(~valid, self._oracle.mask_token_id)
        row = torch.cat([*self._blocks, xt], 1)
        unseen = row.new_full((len(row), self._oracle.joint.length), self._oracle.mask_token_id)
        unseen[:, : row.shape[1]] = row
        first = row.shape[1] - xt.shape[1]
        logits = self._oracle.joint(unseen, t)[:, first : row.shape[1]]
        return logits if at is None else logits[at]

"""Memoise logits for rows that have not changed since the last call.

For networks without time conditioning only. Most policies never query a row again before it has
changed, and for them nothing is kept. A policy that reveals masks depending on the drawn tokens may
reveal none in a step and query the same row again: see ``Policy.asks_again``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser, calls_of


class Reused:
    """A denoiser for one sampling run that only queries the inner one for rows that have changed.

    It must be the outermost denoiser, because kept logits must not be overwritten.

    Args:
        inner: A denoiser whose predictions depend on the row alone; see
            ``diffusion.denoiser.uses_time``.

    Attributes:
        network_calls: Network calls of the last call: 0 if no row had changed.
    """

    def __init__(self, inner: Denoiser) -> None:
        self.inner, self.network_calls = inner, 0
        self.vocab_size, self.data_ids = inner.vocab_size, inner.data_ids
        self._queried: tuple[Tensor, Tensor, Tensor] | None = None
        self._logits = torch.empty(0)

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits of p(x_0 | x_t), (N, V) or (B, L, V); see ``Denoiser``."""
        where = torch.ones_like(xt, dtype=torch.bool) if at is None else at
        there = torch.ones_like(where) if valid is None else valid
        same = self._unchanged(xt, where, there)
        logits = self._kept(same)
        # Frees the rest before the network runs.
        self._logits, self.network_calls = logits, 0
        unknown = where & ~same[:, None]
        if unknown.any():
            fresh = self.inner(xt, t, at=unknown, valid=valid)
            self.network_calls = calls_of(self.inner)
            logits = _merged(logits, fresh, same[:, None].expand_as(where)[where])
        self._queried, self._logits = (xt, where, there), logits
        return logits.view(*xt.shape, -1) if at is None else logits

    def _unchanged(self, *queried: Tensor) -> Tensor:
        """Return the rows with the same arguments as in the last call, shape (B,), bool."""
        before = self._queried
        if before is None or before[0].shape != queried[0].shape:
            return torch.zeros_like(queried[0][:, 0], dtype=torch.bool)
        equal = [(new == old).all(1) for new, old in zip(queried, before, strict=True)]
        return torch.stack(equal).all(0)

    def _kept(self, same: Tensor) -> Tensor:
        if self._queried is None or same.all():
            return self._logits
        where = self._queried[1]
        return self._logits[same[:, None].expand_as(where)[where]] if same.any() else torch.empty(0)


def _merged(kept: Tensor, fresh: Tensor, known: Tensor) -> Tensor:
    """Return logits (N, V): kept ones where ``known`` (N,), bool, else fresh ones."""
    if not known.any():
        return fresh
    logits = fresh.new_empty(len(known), fresh.shape[1])
    logits[known], logits[~known] = kept, fresh
    return logits

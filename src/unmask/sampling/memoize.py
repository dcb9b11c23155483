"""Answers that are kept: of the same row a network that is not told the time says the same.

Most policies never ask about a row again before it has changed, and for them nothing is kept. One
that lifts masks by what was drawn under them may find that none is due, and asks again: see
``Policy.asks_again``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser, calls_of


class Reused:
    """A denoiser for one run of a sampler that asks its own about rows that have changed.

    It goes around all others, since nobody may write over an answer that is kept.

    Args:
        inner: A denoiser whose guesses depend on the row alone; see
            ``diffusion.denoiser.uses_time``.

    Attributes:
        network_calls: What the last call has cost: 0 if no row had changed.
    """

    def __init__(self, inner: Denoiser) -> None:
        self.inner, self.network_calls = inner, 0
        self.vocab_size, self.data_ids = inner.vocab_size, inner.data_ids
        self._asked: tuple[Tensor, Tensor, Tensor] | None = None
        self._logits = torch.empty(0)

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits of p(x_0 | x_t), (N, V) or (B, L, V); see ``Denoiser``."""
        where = torch.ones_like(xt, dtype=torch.bool) if at is None else at
        there = torch.ones_like(where) if valid is None else valid
        same = self._unchanged(xt, where, there)
        logits = self._kept(same)
        # What is not kept is let go before the network runs.
        self._logits, self.network_calls = logits, 0
        unknown = where & ~same[:, None]
        if unknown.any():
            fresh = self.inner(xt, t, at=unknown, valid=valid)
            self.network_calls = calls_of(self.inner)
            logits = _merged(logits, fresh, same[:, None].expand_as(where)[where])
        self._asked, self._logits = (xt, where, there), logits
        return logits.view(*xt.shape, -1) if at is None else logits

    def _unchanged(self, *asked: Tensor) -> Tensor:
        """Return the rows that the last call was about in the same way, shape (B,), bool."""
        before = self._asked
        if before is None or before[0].shape != asked[0].shape:
            return torch.zeros_like(asked[0][:, 0], dtype=torch.bool)
        equal = [(new == old).all(1) for new, old in zip(asked, before, strict=True)]
        return torch.stack(equal).all(0)

    def _kept(self, same: Tensor) -> Tensor:
        if self._asked is None or same.all():
            return self._logits
        where = self._asked[1]
        return self._logits[same[:, None].expand_as(where)[where]] if same.any() else torch.empty(0)


def _merged(kept: Tensor, fresh: Tensor, known: Tensor) -> Tensor:
    """Return logits (N, V), those of the positions ``known`` (N,), bool, from what was kept."""
    if not known.any():
        return fresh
    logits = fresh.new_empty(len(known), fresh.shape[1])
    logits[known], logits[~known] = kept, fresh
    return logits

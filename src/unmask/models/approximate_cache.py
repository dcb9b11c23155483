"""An approximation for encoders that were not trained for a cache: keep what hardly changes.

With attention in both directions every token that is written changes the keys and values of all
others, a little. Here those of a position are kept as they were when it was last run, and a call
runs only on the positions that changed since the last call or are asked about. Every so many calls
everything is run anew. Calls are counted row by row, and a row that is not asked about stands
still, so that it is the same by itself and in any batch. The guesses are not those of the network;
how far they are off is measured by ``python -m benchmarks.frozen`` for a given model.

Kin: Wu et al. 2025, "Fast-dLLM", arXiv:2505.22618, Section 3.2; Ma et al. 2025, "dKV-Cache",
arXiv:2505.15781.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser
from unmask.errors import UserError
from unmask.models.any_order import packed
from unmask.models.encoder import EncoderDenoiser, rows_at_once
from unmask.models.ordered_attention import FROZEN, Cache, Looked, attach, running
from unmask.models.time_conditioning import conditioning_of
from unmask.models.traits import only_at

REFRESH = 8


@dataclass
class FrozenPass:
    """One run over some positions of a canvas, the others being as they were.

    Attributes:
        place: Shape (B, n), int64; the positions that are run, L for none.
        valid: Shape (B, L), bool; False on padding.
        cache: Keys and values of every layer, each at the slot of its position.
        rows: Shape (B,), int64; the rows of the cache that this run is about.
    """

    place: Tensor
    valid: Tensor
    cache: Cache
    rows: Tensor
    _layer: int = 0
    _masks: dict[int | None, Tensor] = field(default_factory=dict)

    def extended(self, key: Tensor, value: Tensor) -> Iterator[Looked]:
        """Yield, for some rows after others, keys and values of all the canvas, (n, H, L, D)."""
        length = self.valid.shape[1]
        both = self.cache.layer(self._layer, key, length)
        self._layer += 1
        for kept, new in zip(both, (key, value), strict=True):
            kept[self.rows[:, None], :, self.place] = new.transpose(1, 2).to(kept.dtype)
        few = rows_at_once(length, key.device)
        for some, own in self.cache.few_at_a_time(self.rows, few):
            yield some, both[0][own, :, :length], both[1][own, :, :length]

    def allowed(self, window: int | None) -> Tensor:
        """Return who may see whom, shape (B, 1, n, L), bool; see ``ordered_attention.Pass``."""
        if window not in self._masks:
            rows, length = self.valid.shape
            sees = self.valid[:, None].expand(rows, self.place.shape[1], length)
            if window is not None:
                everywhere = torch.arange(length, device=self.place.device)
                sees = sees & ((self.place[..., None] - everywhere).abs() < window)
                # What stands for no position still has to look somewhere.
                sees = sees | (self.place == length)[..., None]
            self._masks[window] = sees[:, None]
        return self._masks[window]


class FrozenDenoiser:
    """A denoiser for one run of a sampler that runs its network on few positions.

    Args:
        inner: An encoder that is not told the time.
        refresh: Calls after which everything is run anew; 1 gives the guesses of ``inner``.

    Raises:
        UserError: If the network is told the time, or its attention cannot be replaced.
    """

    def __init__(self, inner: Denoiser, refresh: int = REFRESH) -> None:
        if type(inner) is not EncoderDenoiser or conditioning_of(inner.bare) is not None:
            raise UserError(
                "a frozen cache is for encoders with attention in both directions that are not "
                "told the time and not exported; choose another cache"
            )
        if refresh < 1:
            raise UserError(f"the cache must be refreshed every 1 or more calls, not {refresh}")
        attach(inner.bare, FROZEN)
        self.inner, self.refresh = inner, refresh
        self.vocab_size, self.data_ids = inner.vocab_size, inner.data_ids
        self._ids = self._calls = torch.empty(0, dtype=torch.int64)
        self._cache = Cache(0, 0, 0)

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits of about p(x_0 | x_t), (N, V) or (B, L, V); see ``Denoiser``."""
        where = torch.ones_like(xt, dtype=torch.bool) if at is None else at
        valid = torch.ones_like(where) if valid is None else valid
        # Rows that are finished, or wait, stay out.
        rows = where.any(1).nonzero()[:, 0]
        if not len(rows):
            return torch.zeros(0, self.vocab_size, device=xt.device)
        due = self._due(xt, where, valid)
        place, present = packed(due[rows])
        slots = place.masked_fill(~present, xt.shape[1])
        frozen = FrozenPass(slots, valid[rows], self._cache, rows)
        asked = where[rows].gather(1, place) & present
        ids, position = xt[rows].gather(1, place), place + self.inner.first
        with running(frozen), only_at(self.inner.bare, asked):
            logits = self.inner.model(input_ids=ids, position_ids=position).logits
        logits.index_fill_(-1, self.inner.not_data, float("-inf"))
        return logits[0].view(*xt.shape, -1) if at is None else logits[0]

    def _due(self, xt: Tensor, where: Tensor, valid: Tensor) -> Tensor:
        """Return what has to be run in this call, shape (B, L), bool, and take note of it."""
        if self._ids.shape != xt.shape:
            layers = self.inner.bare.config.num_hidden_layers
            self._cache, self._ids = Cache(len(xt), xt.shape[1], layers), xt
            self._calls = torch.zeros_like(xt[:, 0])
        rows = where.any(1)
        anew = rows & (self._calls % self.refresh == 0)
        run = where | (valid & anew[:, None]) | ((xt != self._ids) & rows[:, None])
        self._calls = self._calls + rows
        self._ids = torch.where(rows[:, None], xt, self._ids)
        return run

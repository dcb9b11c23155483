"""An approximate key-value cache for encoders that were not trained for one.

With bidirectional attention every generated token slightly changes the keys and values of all
others. Here the keys and values of a position are kept from its last computation, and a call runs
on the positions that changed since the last call or are queried. Every ``refresh`` calls all
positions are recomputed. Calls are counted per row, and rows that are not queried are skipped, so a
row does not depend on its batch. The predictions differ from those of the network; ``python -m
benchmarks.frozen`` measures by how much for a given model.

Related work: Wu et al. 2025, "Fast-dLLM", arXiv:2505.22618, Section 3.2; Ma et al. 2025,
"dKV-Cache", arXiv:2505.15781.
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
from unmask.models.forward import only_at
from unmask.models.ordered_attention import FROZEN, Cache, KeysValues, attach, attending
from unmask.models.time_conditioning import conditioning_of

REFRESH = 8


@dataclass
class FrozenPass:
    """One call of the network on some positions of a canvas, with cached keys for the others.

    Attributes:
        place: Shape (B, n), int64; the positions to compute, L for none.
        valid: Shape (B, L), bool; False on padding.
        cache: Keys and values of every layer, in the slots of their positions.
        rows: Shape (B,), int64; the row of the cache for each row of the batch.
    """

    place: Tensor
    valid: Tensor
    cache: Cache
    rows: Tensor
    _layer: int = 0
    _masks: dict[int | None, Tensor] = field(default_factory=dict)

    def extended(self, key: Tensor, value: Tensor) -> Iterator[KeysValues]:
        """Yield keys and values of the whole canvas, (n, H, L, D), for some rows at a time."""
        length = self.valid.shape[1]
        both = self.cache.layer(self._layer, key, length)
        self._layer += 1
        for kept, new in zip(both, (key, value), strict=True):
            kept[self.rows[:, None], :, self.place] = new.transpose(1, 2).to(kept.dtype)
        few = rows_at_once(length, key.device)
        for some, own in self.cache.few_at_a_time(self.rows, few):
            yield some, both[0][own, :, :length], both[1][own, :, :length]

    def allowed(self, window: int | None) -> Tensor:
        """Return the attention mask, shape (B, 1, n, L), bool; see ``ordered_attention.Pass``."""
        if window not in self._masks:
            rows, length = self.valid.shape
            sees = self.valid[:, None].expand(rows, self.place.shape[1], length)
            if window is not None:
                everywhere = torch.arange(length, device=self.place.device)
                sees = sees & ((self.place[..., None] - everywhere).abs() < window)
                # A query without a position still needs a key.
                sees = sees | (self.place == length)[..., None]
            self._masks[window] = sees[:, None]
        return self._masks[window]


class FrozenDenoiser:
    """A denoiser for one run of a sampler that runs its network on few positions.

    Args:
        inner: An encoder without time conditioning.
        refresh: Calls after which all positions are recomputed; 1 gives the logits of ``inner``.

    Raises:
        UserError: If the network has time conditioning, or its attention cannot be replaced.
    """

    def __init__(self, inner: Denoiser, refresh: int = REFRESH) -> None:
        if type(inner) is not EncoderDenoiser or conditioning_of(inner.bare) is not None:
            raise UserError(
                "a frozen cache is for encoders with bidirectional attention that are neither "
                "conditioned on the time nor exported; choose another cache"
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
        """Return approximate logits of p(x_0 | x_t), (N, V) or (B, L, V); see ``Denoiser``."""
        where = torch.ones_like(xt, dtype=torch.bool) if at is None else at
        valid = torch.ones_like(where) if valid is None else valid
        # Finished and waiting rows are skipped.
        rows = where.any(1).nonzero()[:, 0]
        if not len(rows):
            return torch.zeros(0, self.vocab_size, device=xt.device)
        due = self._due(xt, where, valid)
        place, present = packed(due[rows])
        slots = place.masked_fill(~present, xt.shape[1])
        frozen = FrozenPass(slots, valid[rows], self._cache, rows)
        queried = where[rows].gather(1, place) & present
        ids, position = xt[rows].gather(1, place), place + self.inner.first
        with attending(frozen), only_at(self.inner.bare, queried):
            logits = self.inner.model(input_ids=ids, position_ids=position).logits
        logits.index_fill_(-1, self.inner.not_data, float("-inf"))
        return logits[0].view(*xt.shape, -1) if at is None else logits[0]

    def _due(self, xt: Tensor, where: Tensor, valid: Tensor) -> Tensor:
        """Return the positions to compute in this call, shape (B, L), bool; update the state."""
        if self._ids.shape != xt.shape:
            layers = self.inner.bare.config.num_hidden_layers
            self._cache, self._ids = Cache(len(xt), xt.shape[1], layers), xt
            self._calls = torch.zeros_like(xt[:, 0])
        rows = where.any(1)
        due = rows & (self._calls % self.refresh == 0)
        run = where | (valid & due[:, None]) | ((xt != self._ids) & rows[:, None])
        self._calls = self._calls + rows
        self._ids = torch.where(rows[:, None], xt, self._ids)
        return run

"""Attention in which a token sees the tokens generated before it, for any encoder of transformers.

transformers can replace the attention of every layer by a function that is registered under a name.
The function here is ordinary attention outside of an ``AttentionContext``. Inside one, such as a
``Pass``, ranks decide who sees whom, and keys and values of earlier calls come from a cache. The
architecture is not named: its projections, rotary or learned positions and windows stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from unmask.errors import UserError
from unmask.models.compat import (
    attention_of,
    lets_attention_be_replaced,
    missing_arguments,
    sdpa_attention_forward,
    sdpa_mask,
)
from unmask.models.encoder import rows_at_once

NAME = "unmask-ordered"
FROZEN = "unmask-frozen"
"""The same attention, for a model that was not trained for a generation order."""

KeysValues = tuple[slice, Tensor, Tensor]
"""Some rows of the batch, and the keys and values of their queries, (n, H, K, D) each."""


class Cache:
    """Keys and values of tokens by layer, each in the slot of its rank or its position.

    Args:
        rows: Rows of the batch.
        slots: Most tokens of a row.
        layers: Layers of the network.
    """

    def __init__(self, rows: int, slots: int, layers: int) -> None:
        self.rows, self.slots = rows, slots
        self._clean = [0] * layers
        self._kept = torch.empty(0)

    def layer(self, index: int, key: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return keys and values of a layer, (rows, H, slots + 1, D); the last slot is unused.

        Args:
            index: The layer.
            key: Keys of that layer, shape (B, H, K, D); the cache has the same H, D and dtype.
            size: Number of slots, from the first, that will be read. The memory of the others is
                not touched, so the system does not have to allocate its pages.
        """
        if not self._kept.numel():
            # A single allocation: many small ones would fragment the memory.
            kinds = (len(self._clean), 2, self.rows, self.slots + 1)
            self._kept = key.new_empty((*kinds, key.shape[1], key.shape[3]))
        both, clean = self._kept[index], self._clean[index]
        if size > clean:
            both[:, :, clean:size] = 0
            self._clean[index] = size
        keys, values = both.transpose(2, 3)
        return keys, values

    def few_at_a_time(self, rows: Tensor, few: int) -> Iterator[tuple[slice, slice | Tensor]]:
        """Yield chunks of a batch: rows of the batch, and the same rows of the cache.

        Args:
            rows: Shape (B,), int64; the row of the cache for each row of the batch.
            few: Rows in a chunk, which limits the memory for copies.
        """
        for start in range(0, len(rows), few):
            some = slice(start, start + few)
            # The whole cache in order is sliced, which makes no copy.
            yield some, (some if len(rows) == self.rows else rows[some])


@dataclass
class Pass:
    """One call of the network on generated tokens with their ranks, followed by queried masks.

    Attributes:
        rank: Shape (B, n), int64; the ranks of the tokens, at least ``Cache.slots`` on padding.
        queried: Shape (B, q), int64; the ranks of the masks. A mask attends to itself and to the
            tokens of lower rank.
        position: Shape (B, n + q), int64; the positions of tokens and masks in the text.
        seen: Shape (B, k), int64; with a cache the positions of the first k ranks, else empty.
        cache: Keeps the keys and values of tokens, None for no cache.
        rows: Shape (B,), int64; the row of the cache for each row of the batch.
    """

    rank: Tensor
    queried: Tensor
    position: Tensor
    seen: Tensor
    cache: Cache | None = None
    rows: Tensor | None = None
    _layer: int = 0
    _masks: dict[int | None, Tensor] = field(default_factory=dict)

    def extended(self, key: Tensor, value: Tensor) -> Iterator[KeysValues]:
        """Yield the keys and values for the queries of this layer, for some rows at a time."""
        if self.cache is None:
            yield slice(None), key, value
            return
        count, size = self.rank.shape[1], self.seen.shape[1]
        both = self.cache.layer(self._layer, key, size)
        self._layer += 1
        slot = self.rank.clamp_max(self.cache.slots)
        assert self.rows is not None
        for kept, new in zip(both, (key, value), strict=True):
            kept[self.rows[:, None], :, slot] = new[:, :, :count].transpose(1, 2).to(kept.dtype)
        few = rows_at_once(size + self.queried.shape[1], key.device, share=2)
        for some, own in self.cache.few_at_a_time(self.rows, few):
            keys, values = (
                torch.cat([kept[own, :, :size], new[some, :, count:]], 2)
                for kept, new in zip(both, (key, value), strict=True)
            )
            yield some, keys, values

    def allowed(self, window: int | None) -> Tensor:
        """Return the attention mask, shape (B, 1, n + q, K), bool; True where a query sees a key.

        Args:
            window: Only positions less than this apart see each other; None for no limit.
        """
        if window not in self._masks:
            self._masks[window] = self._allowed(window)
        return self._masks[window]

    def _allowed(self, window: int | None) -> Tensor:
        count, masks = self.rank.shape[1], self.queried.shape[1]
        if self.cache is None:
            rank, position = self.rank, self.position
        else:
            rank = torch.arange(self.seen.shape[1], device=self.rank.device).expand_as(self.seen)
            position = torch.cat([self.seen, self.position[:, count:]], 1)
        by_token = rank[:, None] <= self.rank[..., None]
        by_mask = rank[:, None] < self.queried[..., None]
        itself = torch.eye(masks, dtype=torch.bool, device=rank.device)
        sees = torch.cat(
            [
                torch.cat([by_token, by_token.new_zeros(len(rank), count, masks)], 2),
                torch.cat([by_mask, itself.expand(len(rank), -1, -1)], 2),
            ],
            1,
        )
        if window is not None:
            near = (self.position[..., None] - position[:, None]).abs() < window
            sees &= near
        return sees[:, None]


class AttentionContext(Protocol):
    """Keys, values and attention mask of one call of the network; see ``Pass``."""

    def extended(self, key: Tensor, value: Tensor) -> Iterator[KeysValues]: ...

    def allowed(self, window: int | None) -> Tensor: ...


_CONTEXT: ContextVar[AttentionContext | None] = ContextVar("unmask_attention", default=None)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    context = _CONTEXT.get()
    if context is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    allowed = context.allowed(options.get("sliding_window"))
    parts = [
        sdpa_attention_forward(module, query[some], keys, values, allowed[some], **options)[0]
        for some, keys, values in context.extended(key, value)
    ]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)), None


def attach(model: PreTrainedModel, name: str = NAME) -> None:
    """Replace the attention of a model by one that follows an ``AttentionContext``.

    Without such a context the model computes what it did before.

    Args:
        model: Any encoder of transformers.
        name: ``NAME``, which marks an any-order model, or ``FROZEN``.

    Raises:
        UserError: If the attention cannot be replaced, or the model takes no position ids.
    """
    # Registered here and not on import, which must not change transformers.
    AttentionInterface.register(name, _attend)
    AttentionMaskInterface.register(name, sdpa_mask)
    kind = type(model).__name__
    if missing_arguments(model, "position_ids"):
        raise UserError(f"{kind} takes no position_ids, which any-order models need")
    model.set_attn_implementation(name)
    # A network without attention accepts every name.
    if attention_of(model) != name or not lets_attention_be_replaced(model):
        raise UserError(f"{kind} does not let its attention be replaced; choose another encoder")


def is_attached(model: PreTrainedModel) -> bool:
    """Return whether a model was prepared as an any-order model."""
    return attention_of(model) == NAME


@contextmanager
def attending(context: AttentionContext) -> Iterator[None]:
    """Context in which every prepared model attends as an ``AttentionContext`` states."""
    token = _CONTEXT.set(context)
    try:
        yield
    finally:
        _CONTEXT.reset(token)

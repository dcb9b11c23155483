"""Attention in which a token sees what was written before it, for any encoder of transformers.

transformers lets a function of one's own take the place of attention in every layer of a model, by
name. This one is ordinary attention unless a ``Pass`` is running; then what may be seen is decided
by ranks, and keys and values of earlier calls come out of a cache. No architecture is named here:
an encoder brings its projections, its rotary or learned positions and its windows as they are.
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
"""The same attention, for a model that was not trained for an order."""

Looked = tuple[slice, Tensor, Tensor]
"""Which rows, and all keys and values that their queries may look at, (n, H, K, D) each."""


class Cache:
    """Keys and values of tokens, layer by layer, each in a slot: of its rank or its position.

    Args:
        rows: Rows of the batch.
        slots: Tokens that a row can hold.
        layers: Layers of the network.
    """

    def __init__(self, rows: int, slots: int, layers: int) -> None:
        self.rows, self.slots = rows, slots
        self._clean = [0] * layers
        self._kept = torch.empty(0)

    def layer(self, index: int, key: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return keys and values of a layer, (rows, H, slots + 1, D), the last slot being waste.

        Args:
            index: Which layer.
            key: Keys of that layer, shape (B, H, K, D); the cache has their H, D and dtype.
            size: How many slots, from the first, are about to be read. The memory of the others is
                not touched, and a system that hands out pages as they are touched saves it.
        """
        if not self._kept.numel():
            # In one piece: many, each among what is freed soon, would leave holes behind.
            kinds = (len(self._clean), 2, self.rows, self.slots + 1)
            self._kept = key.new_empty((*kinds, key.shape[1], key.shape[3]))
        both, clean = self._kept[index], self._clean[index]
        if size > clean:
            both[:, :, clean:size] = 0
            self._clean[index] = size
        keys, values = both.transpose(2, 3)
        return keys, values

    def few_at_a_time(self, rows: Tensor, few: int) -> Iterator[tuple[slice, slice | Tensor]]:
        """Yield which rows of a run come next, and where in the cache they are.

        Args:
            rows: Shape (B,), int64; the rows of the cache that the run is about.
            few: How many at a time, so that what is copied of them stays small.
        """
        for start in range(0, len(rows), few):
            some = slice(start, start + few)
            # All rows in their order need no copy by index.
            yield some, (some if len(rows) == self.rows else rows[some])


@dataclass
class Pass:
    """One run of the network over written tokens of known rank, followed by masks that ask.

    Attributes:
        rank: Shape (B, n), int64, of the written tokens; at least ``Cache.slots`` on padding.
        asked: Shape (B, q), int64, of the masks: each sees the tokens of lower rank and itself.
        position: Shape (B, n + q), int64; where all of these stand in the text.
        seen: Shape (B, k), int64; with a cache the positions of the first k ranks, else empty.
        cache: Where written tokens are kept, None to forget them.
        rows: Shape (B,), int64; the rows of the cache that this run is about.
    """

    rank: Tensor
    asked: Tensor
    position: Tensor
    seen: Tensor
    cache: Cache | None = None
    rows: Tensor | None = None
    _layer: int = 0
    _masks: dict[int | None, Tensor] = field(default_factory=dict)

    def extended(self, key: Tensor, value: Tensor) -> Iterator[Looked]:
        """Yield, for some rows after others, what the queries of this layer may look at."""
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
        few = rows_at_once(size + self.asked.shape[1], key.device, share=2)
        for some, own in self.cache.few_at_a_time(self.rows, few):
            keys, values = (
                torch.cat([kept[own, :, :size], new[some, :, count:]], 2)
                for kept, new in zip(both, (key, value), strict=True)
            )
            yield some, keys, values

    def allowed(self, window: int | None) -> Tensor:
        """Return who may see whom, shape (B, 1, n + q, K), bool.

        Args:
            window: Only positions less than this apart see each other; None for no such limit.
        """
        if window not in self._masks:
            self._masks[window] = self._allowed(window)
        return self._masks[window]

    def _allowed(self, window: int | None) -> Tensor:
        count, masks = self.rank.shape[1], self.asked.shape[1]
        if self.cache is None:
            rank, position = self.rank, self.position
        else:
            rank = torch.arange(self.seen.shape[1], device=self.rank.device).expand_as(self.seen)
            position = torch.cat([self.seen, self.position[:, count:]], 1)
        written = rank[:, None] <= self.rank[..., None]
        asking = rank[:, None] < self.asked[..., None]
        itself = torch.eye(masks, dtype=torch.bool, device=rank.device)
        sees = torch.cat(
            [
                torch.cat([written, written.new_zeros(len(rank), count, masks)], 2),
                torch.cat([asking, itself.expand(len(rank), -1, -1)], 2),
            ],
            1,
        )
        if window is not None:
            near = (self.position[..., None] - position[:, None]).abs() < window
            sees &= near
        return sees[:, None]


class Run(Protocol):
    """What attention asks of a run of the network; see ``Pass``."""

    def extended(self, key: Tensor, value: Tensor) -> Iterator[Looked]: ...

    def allowed(self, window: int | None) -> Tensor: ...


_RUNNING: ContextVar[Run | None] = ContextVar("unmask_pass", default=None)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    run = _RUNNING.get()
    if run is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    allowed = run.allowed(options.get("sliding_window"))
    parts = [
        sdpa_attention_forward(module, query[some], keys, values, allowed[some], **options)[0]
        for some, keys, values in run.extended(key, value)
    ]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)), None


for _name in (NAME, FROZEN):
    AttentionInterface.register(_name, _attend)
    AttentionMaskInterface.register(_name, sdpa_mask)


def attach(model: PreTrainedModel, name: str = NAME) -> None:
    """Make a model able to do a ``Run``; called in any other way it stays as it was.

    Args:
        model: Any encoder of transformers.
        name: ``NAME``, which marks a model that writes in any order, or ``FROZEN``.

    Raises:
        UserError: If the model does not let its attention be replaced, or takes no positions.
    """
    kind = type(model).__name__
    if missing_arguments(model, "position_ids"):
        raise UserError(f"{kind} takes no positions, which writing in any order needs")
    model.set_attn_implementation(name)
    # A network without any attention says yes to every kind of it.
    if attention_of(model) != name or not lets_attention_be_replaced(model):
        raise UserError(f"{kind} does not let its attention be replaced; choose another encoder")


def is_attached(model: PreTrainedModel) -> bool:
    """Return whether a model was attached as one that writes in any order."""
    return attention_of(model) == NAME


@contextmanager
def running(run: Run) -> Iterator[None]:
    """Within this context the attention of every attached model is that of a pass."""
    token = _RUNNING.set(run)
    try:
        yield
    finally:
        _RUNNING.reset(token)

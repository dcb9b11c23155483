"""Packed rows from a stream of tokens, and the choice of what is noised in a batch of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

from unmask.errors import UserError


class PackedDataset(Dataset[dict[str, Tensor]]):
    """Consecutive rows of a token stream: the start symbol, then length - 1 tokens.

    An item is ``input_ids`` (L,), int64.
    """

    def __init__(self, stream: Tensor, start: Sequence[int], length: int) -> None:
        self.start = torch.tensor(list(start), dtype=torch.int64)
        body = length - len(self.start)
        self.rows = stream[: len(stream) // body * body].view(-1, body)
        if len(self.rows) == 0:
            raise UserError(
                f"the data has only {len(stream)} tokens, less than one row of {body}; "
                "give more text or set data.length lower"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": torch.cat([self.start, self.rows[index].long()])}


class Batch(NamedTuple):
    """A batch of rows.

    Attributes:
        rows: Shape (B, L), int64.
        editable: Shape (B, L), bool; the positions that can be noised.
        tokens: Shape (B,), int64; the divisor of the nats of a row.
        valid: Shape (B, L), bool; False on padding; None if there is none.
    """

    rows: Tensor
    editable: Tensor
    tokens: Tensor
    valid: Tensor | None = None


MakeBatch: TypeAlias = Callable[[dict[str, Tensor], torch.Generator], Batch]
"""(items of a data set, stacked, generator) -> Batch"""


@dataclass(frozen=True)
class Batcher:
    """Chooses the length of a batch and which prefix of each row stays clean.

    Args:
        prefix_share: Share of rows with a clean prefix.
        prefix_min: Shortest prefix, the start symbols included.
        prefix_max: Longest prefix; 0 for all but the last token.
        random_length_share: Share of batches that are cut to a uniformly random length.
        start: Number of start symbols, which are never noised.
    """

    prefix_share: float
    prefix_min: int
    prefix_max: int
    random_length_share: float
    start: int

    def __call__(self, items: dict[str, Tensor], generator: torch.Generator) -> Batch:
        """Return the batch of stacked items of a ``PackedDataset`` or of padded records."""
        rows, valid = items["input_ids"], items.get("valid")
        if valid is not None:
            longest = int(valid.sum(1).max())
            rows, valid = rows[:, :longest], valid[:, :longest]

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device=generator.device)

        length = rows.shape[1]
        if uniform(1) < self.random_length_share:
            shortest = self.start + 1
            length = shortest + int(uniform(1) * (length - shortest + 1))
            rows = rows[:, :length]
        longest = min(self.prefix_max or length - 1, length - 1)
        shortest = min(self.prefix_min, longest)
        size = shortest + (uniform(len(rows)) * (longest - shortest + 1)).long()
        prompted = uniform(len(rows)) < self.prefix_share
        if valid is not None:
            # At least the end of a record is noised.
            size = torch.minimum(size, valid.sum(1) - 1)
        size = torch.where(prompted, size, 0).clamp_min(self.start)
        editable = torch.arange(length, device=rows.device) >= size[:, None]
        editable = editable if valid is None else editable & valid
        return Batch(rows, editable, editable.sum(1), valid)

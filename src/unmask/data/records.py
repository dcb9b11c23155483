"""One record, one sequence: proteins, molecules, titles, each with its end.

    start symbols | record, end | padding up to the longest of a batch

The end symbol is learned with the record. Padding is never noised, attended to or counted. The
length of a record is drawn before it is generated, from the lengths in the training data; the end
symbol is then part of the sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.data.codec import Codec
from unmask.data.tally import Tally
from unmask.errors import UserError

CHUNK = 1000
"""Records encoded at a time."""
QUANTILES = 100
"""Number of lengths that a card keeps."""


@dataclass(frozen=True)
class Records:
    """Records as sequences of a model.

    Attributes:
        texts: The N records.
        ids: Shape (N, L), int64, padded on the right.
        valid: Shape (N, L), bool; False on padding.
        tally: How many records were left out.
    """

    texts: tuple[str, ...]
    ids: Tensor
    valid: Tensor
    tally: Tally


@dataclass(frozen=True)
class RecordCodec:
    """Lays out records with a codec.

    Args:
        codec: The codec; it needs an end symbol.
        length: Most tokens of a sequence, start and end symbols included.

    Raises:
        UserError: If there is no end symbol.
    """

    codec: Codec
    length: int

    def __post_init__(self) -> None:
        if self.codec.end is None:
            raise UserError("the tokenizer has no end symbol, which says where a record ends")

    @property
    def room(self) -> int:
        """Most tokens of a record, its end included."""
        return self.length - len(self.codec.start)

    def lay_out(self, texts: Sequence[str], name: str = "records") -> Records:
        """Lay out records; empty ones and those that are too long are left out.

        Raises:
            UserError: If no record is left.
        """
        kept, bodies, empty = list[str](), list[list[int]](), 0
        for start in range(0, len(texts), CHUNK):
            part = texts[start : start + CHUNK]
            for text, ids in zip(part, self.codec.encode_all(part), strict=True):
                empty += not ids
                if 0 < len(ids) < self.room:
                    kept.append(text)
                    bodies.append(ids)
        too_long = len(texts) - empty - len(kept)
        tally = Tally(name, self.length, len(texts), empty, too_long).check()
        assert self.codec.end is not None
        rows = [[*self.codec.start, *body, self.codec.end] for body in bodies]
        longest = max(map(len, rows))
        pad = self.codec.pad_token_id
        padded = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])
        size = torch.tensor([len(row) for row in rows])
        return Records(tuple(kept), padded, torch.arange(longest) < size[:, None], tally)


def quantiles(lengths: Tensor) -> list[int]:
    """Return at most ``QUANTILES`` evenly spaced quantiles of some lengths, in order.

    Args:
        lengths: Tokens of each record without its end, shape (N,), integers; N at least 1.
    """
    count = min(QUANTILES, len(lengths))
    places = ((torch.arange(count) + 0.5) / count * len(lengths)).long()
    return lengths.sort().values[places].tolist()

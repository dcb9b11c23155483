"""One text, one row: proteins, molecules, titles, each with its end.

    start symbols | text, end | padding up to the longest of a batch

The end symbol is learned with the text. Padding is no token: it is never noised, attended to or
counted. How long a text is to be is decided before it is written, by the lengths of those that the
model was trained on; its end stands where they put it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.data.text import TextCodec
from unmask.errors import UserError

CHUNK = 1000
"""Texts that are tokenised at once."""
QUANTILES = 100
"""Lengths that a card keeps."""


@dataclass(frozen=True)
class Tally:
    """What became of texts that were to be rows.

    Attributes:
        name: What they are called.
        length: Tokens in the longest row that is possible.
        total: How many there were.
        empty: How many of them had no token.
        too_long: How many did not fit on a row.
    """

    name: str
    length: int
    total: int
    empty: int
    too_long: int

    @property
    def counts(self) -> dict[str, int]:
        """How many there were and how many were left out for what, fit for JSON."""
        return {"total": self.total, "empty": self.empty, "too_long": self.too_long}

    @property
    def left_out(self) -> list[str]:
        """One line that says what was left out, none if nothing was."""
        count = self.empty + self.too_long
        return [f"left out {count} of {self.total} {self.name}: {self._reasons}"] if count else []

    @property
    def _reasons(self) -> str:
        return f"{self.empty} empty, {self.too_long} longer than {self.length} tokens"

    def check(self) -> Tally:
        """Return self, or raise a UserError if no text is left."""
        if self.total == self.empty + self.too_long:
            raise UserError(f"none of the {self.total} {self.name} can be used: {self._reasons}")
        return self


@dataclass(frozen=True)
class Records:
    """Texts as rows of a model.

    Attributes:
        texts: The texts that are rows, N of them.
        ids: Shape (N, L), int64, padded at the right.
        valid: Shape (N, L), bool; False on padding.
        tally: What became of the others.
    """

    texts: tuple[str, ...]
    ids: Tensor
    valid: Tensor
    tally: Tally


@dataclass(frozen=True)
class RecordCodec:
    """A tokenizer seen as a codec of texts with their end.

    Args:
        codec: The tokenizer; it needs an end symbol.
        length: Tokens in the longest row, start and end symbols included.

    Raises:
        UserError: If there is no end symbol.
    """

    codec: TextCodec
    length: int

    def __post_init__(self) -> None:
        if self.codec.end is None:
            raise UserError("the tokenizer has no end symbol, which says where a record ends")

    @property
    def room(self) -> int:
        """The most tokens that a text may have, its end included."""
        return self.length - len(self.codec.start)

    def lay_out(self, texts: Sequence[str], name: str = "records") -> Records:
        """Put texts on rows; those that are empty or too long for one are left out.

        Raises:
            UserError: If none is left.
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
    """Return at most ``QUANTILES`` lengths that stand for all, each for as many, in order.

    Args:
        lengths: Tokens of each text without its end, shape (N,), integers; N at least 1.
    """
    count = min(QUANTILES, len(lengths))
    places = ((torch.arange(count) + 0.5) / count * len(lengths)).long()
    return lengths.sort().values[places].tolist()

"""A source and its target on one row: what is given, what is to be written, and nothing else.

    start symbol, before + source + between  |  target, end, end, ... up to the length

Left of the bar is given: never noised, never counted. All on the right is written by the model, the
end symbols that fill the row as well: they are real symbols, attended to and part of the loss, and
so it is the model that says how long a target is.

References: He et al. 2022, arXiv:2211.15029 (DiffusionBERT, the layout); Nie et al. 2025,
arXiv:2502.09992 (LLaDA, the fillers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.data.text import TextCodec
from unmask.errors import UserError

CHUNK = 1000
"""Pairs that are tokenised at once."""

SEPARATOR = "<sep>"
"""What stands for the tokenizer's own separator between source and target; no text spells it."""


@dataclass(frozen=True)
class Pair:
    """A text that is given, and the text to be written for it."""

    source: str
    target: str


@dataclass(frozen=True)
class PairRows:
    """Pairs as rows of a model, and what became of those that are none.

    Attributes:
        name: What these pairs are called.
        ids: Shape (N, L), int32.
        given: Shape (N,), int64; tokens that are never noised, the first ones of a row.
        tokens: Shape (N,), int64; of the target and its one end symbol, without the fillers.
        targets: N texts.
        total: How many pairs there were.
        empty: How many of them had no source or no target.
        too_long: How many did not fit on a row.
    """

    name: str
    ids: Tensor
    given: Tensor
    tokens: Tensor
    targets: tuple[str, ...]
    total: int
    empty: int
    too_long: int

    @property
    def editable(self) -> Tensor:
        """Target, end and fillers, shape (N, L), bool."""
        return torch.arange(self.ids.shape[1]) >= self.given[:, None]

    @property
    def counts(self) -> dict[str, int]:
        """How many pairs there were and how many were left out for what, fit for JSON."""
        return {"total": self.total, "empty": self.empty, "too_long": self.too_long}

    @property
    def left_out(self) -> list[str]:
        """One line that says what was left out, none if nothing was."""
        if len(self.ids) == self.total:
            return []
        count = self.total - len(self.ids)
        return [f"left out {count} of {self.total} {self.name}: {self._reasons()}"]

    def _reasons(self) -> str:
        return f"{self.empty} empty, {self.too_long} longer than {self.ids.shape[1]} tokens"

    def check(self) -> PairRows:
        """Return self, or raise a UserError if no pair is left."""
        if len(self.ids):
            return self
        raise UserError(f"none of the {self.total} {self.name} can be used: {self._reasons()}")


@dataclass(frozen=True)
class PairCodec:
    """A tokenizer seen as a codec of pairs.

    Args:
        codec: The tokenizer; it needs an end symbol.
        before: Text put before the source.
        between: Text put between source and target; the target is tokenised on its own, so a blank
            at the end of it does not become part of the target's first token. ``SEPARATOR`` is not
            spelt out: it is the tokenizer's separator symbol, or its end symbol if it has none.
        length: Tokens in a row, L.

    Raises:
        UserError: If there is no end symbol.
    """

    codec: TextCodec
    before: str
    between: str
    length: int

    def __post_init__(self) -> None:
        if self.codec.end is None:
            raise UserError("the tokenizer has no end symbol, which says where a target ends")

    def given(self, sources: Sequence[str]) -> list[list[int]]:
        """Return the ids that come before each target: start symbols, before, source, between."""
        between, separator = self.between, list[int]()
        if between == SEPARATOR:
            own, end = self.codec.tokenizer.sep_token_id, self.codec.end
            between = ""
            separator = [int(token) for token in (own, end) if token is not None][:1]
        texts = [f"{self.before}{source}{between}" for source in sources]
        return [[*self.codec.start, *ids, *separator] for ids in self.codec.encode_all(texts)]

    def lay_out(self, pairs: Sequence[Pair], name: str = "pairs") -> PairRows:
        """Put pairs on rows; those without source or target or too long for a row are left out.

        Args:
            pairs: The pairs.
            name: What to call them in a message.

        Raises:
            UserError: If none is left.
        """
        filled = [pair for pair in pairs if pair.source.strip() and pair.target.strip()]
        end = self.codec.end
        assert end is not None
        # What is not written over stays an end symbol: the target's own, then the fillers.
        ids = torch.full((len(filled), self.length), end, dtype=torch.int32)
        given: list[int] = []
        tokens: list[int] = []
        targets: list[str] = []
        too_long = 0
        for start in range(0, len(filled), CHUNK):
            part = filled[start : start + CHUNK]
            heads = self.given([pair.source for pair in part])
            tails = self.codec.encode_all([pair.target for pair in part])
            for pair, head, tail in zip(part, heads, tails, strict=True):
                row = [*head, *tail]
                if not tail:
                    continue
                if len(row) + 1 > self.length:
                    too_long += 1
                    continue
                ids[len(targets), : len(row)] = torch.tensor(row, dtype=torch.int32)
                given.append(len(head))
                tokens.append(len(tail) + 1)
                targets.append(pair.target)
        return PairRows(
            name=name,
            ids=ids[: len(targets)],
            given=torch.tensor(given, dtype=torch.int64),
            tokens=torch.tensor(tokens, dtype=torch.int64),
            targets=tuple(targets),
            total=len(pairs),
            empty=len(pairs) - len(targets) - too_long,
            too_long=too_long,
        ).check()

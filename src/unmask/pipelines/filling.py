"""The text of a generated row: the given text, byte for byte, with the fillings of its blanks.

A tokenizer is not always lossless: it may drop case, accents, line ends and runs of spaces, or have
no token for a character. So given text is never decoded. A filling is the text that its tokens add
to the decoded row.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from unmask.data.text import TextCodec
from unmask.sampling.canvas import Frame

_LEADING = ("Ps", "Pi", "Pd", "Pc", "Sc", "Sm")
"""Unicode categories of signs that belong to the next word: brackets, dashes, currencies, ..."""


@dataclass(frozen=True)
class Filling:
    """The generated text of one blank.

    Attributes:
        text: As it stands in the whole text. A space at its head is left out where the given text
            before it ends in one already.
        tokens: The text that each token adds; together they are ``text``. A special symbol adds
            nothing, and neither does a token whose character the next ones complete.
        ids: The token ids.
        probabilities: The probability of each token under the distribution that it was drawn from
            in its step, after temperature and filters (at a temperature of 0: without them, at
            temperature 1), given the row before that step. None where the sampler did not draw.
            They are no joint probability: tokens of one step do not see each other.
    """

    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    probabilities: tuple[float | None, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the facts, fit for JSON."""
        return {
            "text": self.text,
            "tokens": list(self.tokens),
            "ids": list(self.ids),
            "probabilities": list(self.probabilities),
        }


def fill(
    codec: TextCodec,
    frame: Frame,
    row: int,
    sizes: Sequence[int],
    texts: Sequence[str],
) -> tuple[str, tuple[Filling, ...]]:
    """Return the text of a row, and the filling of each of its blanks.

    The text ends at the first end symbol that was generated after all given tokens.

    Args:
        codec: The tokenizer.
        frame: The last one.
        row: Which row of it.
        sizes: Tokens of each of n blanks.
        texts: The n + 1 given texts before, between and after them.
    """
    generated = _GeneratedRow.of(codec, frame, row)
    pieces = codec.text_pieces(generated.ids)
    text, fillings = texts[0], []
    for (first, last), after in zip(pairwise(accumulate(sizes, initial=0)), texts[1:], strict=True):
        where = [i for i in generated.positions[first:last] if i < len(pieces)]
        added = [pieces[i] for i in where]
        if where:
            added = _without_space(codec, added, text, "".join(pieces[: where[0]]))
        fillings.append(generated.filling(where, added))
        text += fillings[-1].text + after
    return text, tuple(fillings)


def target(codec: TextCodec, frame: Frame, row: int) -> Filling:
    """Return what was generated after the last given token of a row, up to the first end symbol."""
    generated = _GeneratedRow.of(codec, frame, row)
    pieces = codec.text_pieces(generated.ids[generated.given :])
    return generated.filling(range(generated.given, len(generated.ids)), pieces)


@dataclass(frozen=True)
class _GeneratedRow:
    """A row up to the first end symbol that was generated after all given tokens.

    Attributes:
        ids: Its tokens, given ones included.
        given: Number of tokens up to the last given one.
        positions: The positions of the blanks, in the whole row.
        confidence: Of every token of the whole row; nan where unknown.
    """

    ids: list[int]
    given: int
    positions: list[int]
    confidence: list[float]

    @classmethod
    def of(cls, codec: TextCodec, frame: Frame, row: int) -> _GeneratedRow:
        valid = frame.canvas.valid[row]
        ids = frame.canvas.ids[row, valid].tolist()
        editable = frame.canvas.editable[row, valid].tolist()
        positions = [i for i, free in enumerate(editable) if free]
        given = max((i + 1 for i, free in enumerate(editable) if not free), default=0)
        stop = next((i for i in range(given, len(ids)) if ids[i] == codec.end), len(ids))
        return cls(ids[:stop], given, positions, frame.confidence[row, valid].tolist())

    def filling(self, where: Sequence[int], added: Sequence[str]) -> Filling:
        """Return the filling of the tokens at some positions, which add these texts."""
        sure = (self.confidence[i] for i in where)
        probabilities = tuple(p if math.isfinite(p) else None for p in sure)
        own = tuple(self.ids[i] for i in where)
        return Filling("".join(added), tuple(added), own, probabilities)


def continued(codec: TextCodec, ids: Sequence[int], given: int, prompt: str) -> str:
    """Return a prompt followed by the text of all but the first ``given`` ids of a row."""
    pieces = codec.text_pieces(ids)
    added = _without_space(codec, pieces[given:], prompt, "".join(pieces[:given]))
    return prompt + "".join(added)


def _without_space(codec: TextCodec, added: list[str], text: str, decoded: str) -> list[str]:
    """Drop the space at the head of a filling where it is one too many.

    That is where the given text has a space without a token, or where only the decoder puts one
    after a sign that belongs to the next word: ``(`` + ``cat``.

    Args:
        codec: The tokenizer.
        added: The text that each token of the filling adds.
        text: The text before it.
        decoded: The decoded tokens of ``text``.
    """
    first = next((i for i, piece in enumerate(added) if piece), None)
    if first is None or not added[first].startswith(" "):
        return added
    word = added[first][1:]
    if _tail(text) <= _tail(decoded) and not (
        _leads(text) and codec.encode(text[-1] + word) == codec.encode(f"{text[-1]} {word}")
    ):
        return added
    return [*added[:first], word, *added[first + 1 :]]


def _leads(text: str) -> bool:
    """Return whether a text ends in a sign that belongs to the next word, such as ``(`` or ``$``.

    A quotation mark does so after a space.
    """
    sign, before = text[-1:], text[:-1]
    if sign in ("'", '"'):
        return not before or before[-1].isspace() or _leads(before[-2:])
    return bool(sign) and (sign in "/\\@#" or unicodedata.category(sign) in _LEADING)


def _tail(text: str) -> int:
    return len(text) - len(text.rstrip())

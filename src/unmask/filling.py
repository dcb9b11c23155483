"""The text of a written row: what was given, byte for byte, and between it what was written.

A tokenizer need not give a text back: it may drop case, accents, line ends and runs of blanks, and
have no token for a character. So nothing that was given is ever decoded. A filling is what the
decoded row has more with its tokens than without them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from unmask.canvas import Frame
from unmask.codec.text import TextCodec


@dataclass(frozen=True)
class Filling:
    """What was written on one blank.

    Attributes:
        text: As it stands in the whole text. A blank at its head is left out where the given text
            before it ends in one already.
        tokens: The text that each token adds; together the text. A special symbol adds nothing, and
            neither does a token whose character the next ones complete.
        ids: The tokens themselves.
        probabilities: The probability of each token under the distribution that it was drawn from
            in the step that wrote it, after temperature and filters (at a temperature of 0: without
            them, at temperature 1), given what the row showed before that step. None where the
            sampler did not draw. They are no joint probability: tokens that were written in one
            step do not see each other.
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
    """Return the text of a row, and what was written on each of its blanks.

    Nothing counts behind the first end symbol that was written after all given tokens.

    Args:
        codec: The tokenizer.
        frame: The last one.
        row: Which row of it.
        sizes: Tokens of each of n blanks.
        texts: The n + 1 given texts before, between and behind them.
    """
    canvas = frame.canvas
    valid = canvas.valid[row]
    ids = canvas.ids[row, valid].tolist()
    editable = canvas.editable[row, valid].tolist()
    confidence = frame.confidence[row, valid].tolist()
    places = [i for i, free in enumerate(editable) if free]
    given = [i for i, free in enumerate(editable) if not free]
    after = given[-1] + 1 if given else 0
    stop = next((i for i in range(after, len(ids)) if ids[i] == codec.end), len(ids))
    pieces = codec.text_pieces(ids[:stop])
    text, fillings = texts[0], []
    for (first, last), behind in zip(
        pairwise(accumulate(sizes, initial=0)), texts[1:], strict=True
    ):
        where = [i for i in places[first:last] if i < stop]
        added = [pieces[i] for i in where]
        if where:
            added = _without_doubled_blank(added, text, "".join(pieces[: where[0]]))
        own = tuple(ids[i] for i in where)
        probabilities = tuple(
            confidence[i] if math.isfinite(confidence[i]) else None for i in where
        )
        fillings.append(Filling("".join(added), tuple(added), own, probabilities))
        text += fillings[-1].text + behind
    return text, tuple(fillings)


def continued(codec: TextCodec, ids: Sequence[int], given: int, prompt: str) -> str:
    """Return a prompt, and behind it the text of all but the first ``given`` ids of a row."""
    pieces = codec.text_pieces(ids)
    added = _without_doubled_blank(pieces[given:], prompt, "".join(pieces[:given]))
    return prompt + "".join(added)


def _without_doubled_blank(added: list[str], text: str, decoded: str) -> list[str]:
    """Drop the blank at the head of a filling where the given text has one without a token.

    Args:
        added: The text that each token of the filling adds.
        text: What stands before it.
        decoded: What the tokens of that are decoded to.
    """
    first = next((i for i, piece in enumerate(added) if piece), None)
    if first is None or not added[first].startswith(" ") or _tail(text) <= _tail(decoded):
        return added
    return [*added[:first], added[first][1:], *added[first + 1 :]]


def _tail(text: str) -> int:
    return len(text) - len(text.rstrip())

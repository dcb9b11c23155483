"""The text that each token of a row adds to it.

    piece_i = what the decoded text of x_1 ... x_i has more than that of x_1 ... x_{i-1}

so that the pieces in a row are what the decoder gives for the row, whatever kind it is. A character
that is spread over several tokens is the piece of the last of them, and the others have none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_LONGEST = 16
"""Tokens of a group that is tried for whole characters."""
_KEPT = 2**17


class Pieces:
    """Cuts decoded rows into the texts of their tokens; it remembers pairs of tokens.

    Args:
        decode: Gives the text of ids.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._of_one = lru_cache(_KEPT)(lambda token: decode([token]))
        self._of_two = lru_cache(_KEPT)(self._added)

    def of(self, ids: Sequence[int], before: Sequence[int] = ()) -> list[str]:
        """Return the text that each id adds.

        Args:
            ids: A row, or a part of one.
            before: Ids that stand before them.
        """
        context = list(before)
        whole = self._decode([*context, *ids])
        found = self._quickly(list(ids), context[-1] if context else None)
        lead = self._decode(context) if context else ""
        if lead + "".join(found) == whole:
            return found
        return _differences([lead, *self._prefixes(context, ids)], whole)

    def _quickly(self, ids: list[int], last: int | None) -> list[str]:
        """Return pieces that are right where a token's text depends on its neighbour at most."""
        found: list[str] = []
        start = 0
        while start < len(ids):
            if REPLACEMENT not in self._of_one(ids[start]):
                found.append(self._of_two(last, ids[start]))
            else:
                found += self._group(ids, start, last)
            start, last = len(found), ids[len(found) - 1]
        return found

    def _group(self, ids: list[int], start: int, last: int | None) -> list[str]:
        """Return the pieces of the fewest tokens that make whole characters together."""
        context = [] if last is None or REPLACEMENT in self._of_one(last) else [last]
        lead = self._decode(context) if context else ""
        texts = [lead]
        for stop in range(start + 1, min(len(ids), start + _LONGEST) + 1):
            texts.append(self._decode([*context, *ids[start:stop]]))
            if not texts[-1].endswith(REPLACEMENT):
                break
        return _differences(texts, texts[-1])

    def _added(self, last: int | None, token: int) -> str:
        if last is None:
            return self._of_one(token)
        both = self._decode([last, token])
        return both[_shared(self._of_one(last), both) :]

    def _prefixes(self, context: list[int], ids: Sequence[int]) -> list[str]:
        return [self._decode([*context, *ids[:stop]]) for stop in range(1, len(ids) + 1)]


def _differences(texts: Sequence[str], whole: str) -> list[str]:
    """Return what each text has more than the one before, of those that begin the last one."""
    shared = [_shared(text, whole) for text in texts]
    shared[-1] = len(whole)
    for i in range(1, len(shared)):
        shared[i] = max(shared[i], shared[i - 1])
    return [whole[a:b] for a, b in pairwise(shared)]


def _shared(text: str, whole: str) -> int:
    """Return how many characters two texts begin with in common."""
    if whole.startswith(text):
        return len(text)
    pairs = enumerate(zip(text, whole, strict=False))
    return next((i for i, (a, b) in pairs if a != b), len(whole))

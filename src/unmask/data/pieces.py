"""The text that each token of a sequence adds to it.

    piece_i = decode(x_1 ... x_i) without its prefix decode(x_1 ... x_{i-1})

so that the concatenated pieces are the decoded sequence, whatever the decoder. A character that is
split into several tokens is the piece of the last of them; the pieces of the others are empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_LONGEST = 16
"""Most tokens of a group that is searched for complete characters."""
_KEPT = 2**17


class Pieces:
    """Splits decoded sequences into the texts of their tokens, with a cache for pairs of tokens.

    Args:
        decode: Returns the text of ids.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._of_one = lru_cache(_KEPT)(lambda token: decode([token]))
        self._of_two = lru_cache(_KEPT)(self._added)

    def of(self, ids: Sequence[int], before: Sequence[int] = ()) -> list[str]:
        """Return the text that each id adds.

        Args:
            ids: A sequence, or a part of one.
            before: Ids that come before them.
        """
        context = list(before)
        whole = self._decode([*context, *ids])
        found = self._quickly(list(ids), context[-1] if context else None)
        lead = self._decode(context) if context else ""
        if lead + "".join(found) == whole:
            return found
        return _differences([lead, *self._prefixes(context, ids)], whole)

    def _quickly(self, ids: list[int], last: int | None) -> list[str]:
        """Return pieces that are right if a token's text depends only on the token before it."""
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
        """Return the pieces of the fewest tokens that together decode to complete characters."""
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
    """Return what each text adds to the one before, for prefixes of ``whole``."""
    shared = [_shared(text, whole) for text in texts]
    shared[-1] = len(whole)
    for i in range(1, len(shared)):
        shared[i] = max(shared[i], shared[i - 1])
    return [whole[a:b] for a, b in pairwise(shared)]


def _shared(text: str, whole: str) -> int:
    """Return the length of the common prefix of two texts."""
    if whole.startswith(text):
        return len(text)
    pairs = enumerate(zip(text, whole, strict=False))
    return next((i for i, (a, b) in pairs if a != b), len(whole))

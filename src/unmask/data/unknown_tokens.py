"""Text that a tokenizer has no tokens for: how much of it there is, and an example.

A protein without blanks under ProtBERT, or English under a Chinese BERT, is one unknown token after
another. A network learns to repeat that token and scores well on nothing, so it has to be said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from unmask.data.text import TextCodec

SHARE = 0.01
"""From this share of the tokens on it is said."""
_SEARCHED, _WORDS, _LONGEST = 10**6, 1000, 20


def count(codec: TextCodec, ids: Tensor) -> int:
    """Return how many of some ids, integers of any shape, are the unknown token."""
    return 0 if codec.unknown is None else int((ids == codec.unknown).sum())


def notes(codec: TextCodec, texts: Iterable[str], unknown: int, tokens: int) -> tuple[str, ...]:
    """Return a sentence about unknown tokens, or none if they are few.

    Args:
        codec: The tokenizer.
        texts: What was encoded.
        unknown: How many tokens of them are unknown.
        tokens: How many tokens they have.
    """
    if unknown < max(SHARE * tokens, 1):
        return ()
    found = example(codec, texts)
    such = f", such as {found!r}" if found else ""
    return (
        f"{unknown} of {tokens} tokens of the text ({unknown / tokens:.0%}) are unknown to the "
        f"tokenizer{such}, and all the same to the model; give text such as the model was trained "
        "on (language, case, blanks between letters)",
    )


def example(codec: TextCodec, texts: Iterable[str]) -> str:
    """Return the first word, or letter of a long one, that is unknown; empty if none is found."""
    for text in texts:
        words = text[:_SEARCHED].split()
        for start in range(0, len(words), _WORDS):
            found = _first(codec, words[start : start + _WORDS])
            if found is not None:
                letters = [] if len(found) <= _LONGEST else list(found)
                return _first(codec, letters) or found[:_LONGEST]
    return ""


def _first(codec: TextCodec, words: Sequence[str]) -> str | None:
    encoded = codec.encode_all(words) if words else []
    return next((w for w, ids in zip(words, encoded, strict=True) if codec.unknown in ids), None)

"""Text that a tokenizer has no tokens for: how much there is, and an example.

A protein without spaces under ProtBERT, or English under a Chinese BERT, becomes a sequence of
unknown tokens. A network learns to repeat that token and gets a meaningless good score.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from unmask.data.text import TextCodec

SHARE = 0.01
"""Share of unknown tokens above which a note is given."""
_SEARCHED, _WORDS, _LONGEST = 10**6, 1000, 20


def count(codec: TextCodec, ids: Tensor) -> int:
    """Return how many ids are the unknown token.

    Args:
        codec: The tokenizer.
        ids: Integers of any shape.
    """
    return 0 if codec.unknown is None else int((ids == codec.unknown).sum())


def noted(codec: TextCodec, texts: Iterable[str], ids: Tensor) -> tuple[str, ...]:
    """Return ``notes`` on the ids (N,) of texts."""
    return notes(codec, texts, count(codec, ids), len(ids))


def notes(codec: TextCodec, texts: Iterable[str], unknown: int, tokens: int) -> tuple[str, ...]:
    """Return a sentence about unknown tokens, none if they are few.

    Args:
        codec: The tokenizer.
        texts: The encoded texts.
        unknown: Their number of unknown tokens.
        tokens: Their number of tokens.
    """
    if unknown < max(SHARE * tokens, 1):
        return ()
    found = example(codec, texts)
    such = f", such as {found!r}" if found else ""
    return (
        f"{unknown} of {tokens} tokens of the text ({unknown / tokens:.0%}) are unknown to the "
        f"tokenizer{such}, so the model cannot tell them apart; give text such as the model was "
        "trained on (language, case, spaces between letters)",
    )


def example(codec: TextCodec, texts: Iterable[str]) -> str:
    """Return the first unknown word, or the first unknown letter of a long one; else empty."""
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

"""Text to ids with any tokenizer, where special symbols that a text spells are plain letters.

Most fast tokenizers have an option for that, but some still find the symbols in their vocabulary.
Tokenizers implemented in Python search for ordinary tokens, such as the residues of ESM, the same
way as for special symbols, and have one switch for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product, takewhile
from typing import Any

from transformers import PreTrainedTokenizerBase

from unmask.errors import UserError, is_unicode

_WORDS = ("a", "t", "A", "1", "the", ".")
Encode = Callable[[PreTrainedTokenizerBase, Sequence[str]], list[list[int]]]
CARRIERS = (".", "a", "0", "。")
"""Texts to put before another text; the first that shares no token with it is used."""


def encode_all(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of several texts, without special symbols around them.

    Raises:
        UserError: If a text is not valid Unicode.
    """
    if not texts:
        return []
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    try:
        found = _encode(tokenizer, texts)
        return [
            ids if special.isdisjoint(ids) else _as_letters(tokenizer, text)
            for text, ids in zip(texts, found, strict=True)
        ]
    except (TypeError, UnicodeEncodeError) as error:
        if all(map(is_unicode, texts)):
            raise
        raise UserError(
            "a text holds half a character (a surrogate), as it comes from bytes that are not "
            "UTF-8; give valid text"
        ) from error


def encode_some(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of several texts as ``encode_all``; empty for a text without tokens."""
    try:
        return encode_all(tokenizer, texts)
    except UserError:
        return [_ids_or_none(lambda one: encode_all(tokenizer, [one])[0], text) for text in texts]


def _ids_or_none(spell: Callable[[str], list[int]], text: str) -> list[int]:
    try:
        return spell(text)
    except UserError:
        return []


def marks_a_beginning(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the first token of a text differs from the one it has after other text.

    SentencePiece and some byte-level tokenizers put a space before every text.
    """
    for letter, stop in product("aA1", ".,。"):
        both, first, second = encode_some(tokenizer, [letter + stop, letter, stop])
        if both and first and second and tokenizer.unk_token_id not in both + first + second:
            return both != first + second
    return False


def encode_after(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids that a text has after other text, for a tokenizer that marks a beginning."""
    return _after(tokenizer, text, encode_all)


def _after(tokenizer: PreTrainedTokenizerBase, text: str, encode: Encode) -> list[int]:
    for carrier in CARRIERS:
        first, both = encode(tokenizer, [carrier, carrier + text])
        if both[: len(first)] == first:
            return both[len(first) :]
    return encode(tokenizer, [text])[0]


def encode_before(spell: Callable[[str], list[int]], text: str, unknown: int | None) -> list[int]:
    """Return the ids that a text has before any other text: those that all next words leave alone.

    Args:
        spell: Returns the ids of a text.
        text: A text that ends in white space, which a tokenizer may join to the next word.
        unknown: The id of the unknown token, None if there is none.
    """
    found = (_ids_or_none(spell, text + word) for word in _WORDS)
    rows = [row for row in found if row and row[-1] != unknown]
    if len({row[-1] for row in rows}) < 2:
        return spell(text.removesuffix(" "))
    columns = takewhile(lambda column: len({*column}) == 1, zip(*rows, strict=False))
    return [column[0] for column in columns]


def _as_letters(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids of a text that spells special symbols: each is cut after its first letter.

    A symbol of a single letter, as those of CANINE, cannot be cut and stays as it is.
    """
    parts = [text]
    for symbol in tokenizer.all_special_tokens:
        parts = [piece for part in parts for piece in _cut(part, symbol)]
    (first,) = _encode(tokenizer, parts[:1])
    return first + [i for part in parts[1:] for i in _after(tokenizer, part, _encode)]


def _cut(text: str, symbol: str) -> list[str]:
    first, *rest = text.split(symbol)
    parts = [first]
    for part in rest:
        parts[-1] += symbol[:1]
        parts.append(symbol[1:] + part)
    return parts


@contextmanager
def _tokenizer_errors() -> Iterator[None]:
    """Turn bare errors and panics of the tokenizers library into a ``UserError``.

    Raises:
        UserError: For example for an unknown word without an unknown token.
    """
    try:
        yield
    except BaseException as error:
        # A panic of Rust is a ``BaseException`` but not an ``Exception``.
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        reason = next(iter(str(error).splitlines()), "it failed")
        raise UserError(f"the tokenizer has no tokens for a text: {reason}") from error


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    return list(encoded(tokenizer, list(texts))["input_ids"])


def encoded(tokenizer: PreTrainedTokenizerBase, text: str | list[str], **more: bool) -> Any:
    """Call a tokenizer so that special symbols in a text are plain letters where it supports that.

    Args:
        tokenizer: Any tokenizer.
        text: One text, or several.
        more: Further keywords of the call.
    """
    # No warning about long texts, which are cut into rows later.
    options: Any = {"add_special_tokens": False, "verbose": False} | more
    with _tokenizer_errors():
        # Python tokenizers would lose the ordinary tokens that they find by the same search.
        if not tokenizer.is_fast:
            return tokenizer(text, split_special_tokens=False, **options)
        try:
            return tokenizer(text, split_special_tokens=True, **options)
        except TypeError:
            # The tokenizer of LUKE does not have this keyword.
            return tokenizer(text, **options)

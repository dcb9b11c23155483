"""Text to ids with any tokenizer, where special symbols that a text spells out are mere letters.

Most fast tokenizers do that themselves, but some have the symbols in their vocabulary. Those that
are written in Python find ordinary tokens, such as the residues of ESM, in the same way as special
symbols, and have one switch for both.
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
"""What can stand before a text that is no beginning; the first that it does not fuse with is taken.
"""


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
    """Return the ids of several texts as ``encode_all``, none for one that has no tokens."""
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
    """Return whether a text gets another first token than it has behind other text.

    SentencePiece and some byte-level tokenizers put a blank before every text.
    """
    for letter, stop in product("aA1", ".,。"):
        both, first, second = encode_some(tokenizer, [letter + stop, letter, stop])
        if both and first and second and tokenizer.unk_token_id not in both + first + second:
            return both != first + second
    return False


def encode_behind(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids that a text has behind other text, for a tokenizer that marks a beginning."""
    return _behind(tokenizer, text, encode_all)


def _behind(tokenizer: PreTrainedTokenizerBase, text: str, encode: Encode) -> list[int]:
    for carrier in CARRIERS:
        first, both = encode(tokenizer, [carrier, carrier + text])
        if both[: len(first)] == first:
            return both[len(first) :]
    return encode(tokenizer, [text])[0]


def encode_ahead(spell: Callable[[str], list[int]], text: str, unknown: int | None) -> list[int]:
    """Return the ids that a text has before other text, whatever word that begins with.

    Args:
        spell: Gives the ids of a text.
        text: What ends in white space, of which a tokenizer may make a part of the next word.
        unknown: The id of what has no token, None if there is none.
    """
    found = (_ids_or_none(spell, text + word) for word in _WORDS)
    rows = [row for row in found if row and row[-1] != unknown]
    if len({row[-1] for row in rows}) < 2:
        return spell(text.removesuffix(" "))
    columns = takewhile(lambda column: len({*column}) == 1, zip(*rows, strict=False))
    return [column[0] for column in columns]


def _as_letters(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids of a text that spells special symbols: each is cut behind its first letter.

    What is a single letter, as the symbols of CANINE are, stays what it is.
    """
    parts = [text]
    for symbol in tokenizer.all_special_tokens:
        parts = [piece for part in parts for piece in _cut(part, symbol)]
    (first,) = _encode(tokenizer, parts[:1])
    return first + [i for part in parts[1:] for i in _behind(tokenizer, part, _encode)]


def _cut(text: str, symbol: str) -> list[str]:
    first, *rest = text.split(symbol)
    parts = [first]
    for part in rest:
        parts[-1] += symbol[:1]
        parts.append(symbol[1:] + part)
    return parts


@contextmanager
def in_a_sentence() -> Iterator[None]:
    """Say in a sentence what a tokenizer cannot do: its library raises bare errors, or panics.

    Raises:
        UserError: For one of these, such as an unknown word without an unknown token.
    """
    try:
        yield
    except BaseException as error:
        # A panic of Rust is no ``Exception``.
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        reason = next(iter(str(error).splitlines()), "it failed")
        raise UserError(f"the tokenizer has no tokens for a text: {reason}") from error


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    return list(encoded(tokenizer, list(texts))["input_ids"])


def encoded(tokenizer: PreTrainedTokenizerBase, text: str | list[str], **more: bool) -> Any:
    """Return what a tokenizer makes of texts, whose special symbols are letters where it can.

    Args:
        tokenizer: Any.
        text: One text, or several.
        more: What else it is asked for.
    """
    # A long text is no mistake here: it is cut into rows later.
    options: Any = {"add_special_tokens": False, "verbose": False} | more
    with in_a_sentence():
        # In Python it would also hide the ordinary vocabulary that is found by such a search.
        if not tokenizer.is_fast:
            return tokenizer(text, split_special_tokens=False, **options)
        try:
            return tokenizer(text, split_special_tokens=True, **options)
        except TypeError:
            # That of LUKE does not know the word.
            return tokenizer(text, **options)

"""The spaces that a decoder puts between tokens whose texts need none.

Some decoders put a space between any two tokens: the residues of a protein, the k-mers of a genome,
the characters of a Chinese text. If two adjacent tokens also encode to themselves without a space,
the space carries no information, and text that was given without spaces would come back with them.
Any tokenizer can be loaded, so this is tested on its vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from transformers import PreTrainedTokenizerBase

SAMPLE = 64

Encode = Callable[[Sequence[str]], list[list[int]]]


@dataclass(frozen=True)
class Spaces:
    """Which spaces of a decoder carry no information.

    Attributes:
        none: Whether no token of the vocabulary needs a space next to it.
        characters: Characters that need no space next to each other, such as Chinese ones.
    """

    none: bool
    characters: frozenset[str] = frozenset()

    @cached_property
    def pattern(self) -> re.Pattern[str] | None:
        """A pattern of a space between two such characters; None without such characters."""
        between = "".join(map(re.escape, sorted(self.characters)))
        return re.compile(f"(?<=[{between}]) (?=[{between}])") if between else None

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, encode: Encode) -> Spaces:
        """Test a tokenizer.

        Args:
            tokenizer: Any tokenizer.
            encode: Returns the ids of texts, without special symbols.
        """
        special = set(tokenizer.all_special_ids)
        some = [i for i in _few(range(len(tokenizer))) if i not in special]
        names = dict(zip(some, tokenizer.convert_ids_to_tokens(some), strict=True))
        # If names contain a marker for a space, the decoder adds no spaces of its own.
        plain = [i for i in some if names[i] and _decoded(tokenizer, [i]) == names[i]]
        if not _spaced(tokenizer, plain):
            return cls(False)
        # A vocabulary may contain tokens that no text encodes to.
        spelt = [i for i in plain if encode([names[i]]) == [[i]]]
        if 2 * len(spelt) > len(some) and _need_none(tokenizer, spelt, encode):
            return cls(True)
        known = {i: token for token, i in tokenizer.get_vocab().items() if i not in special}
        characters = [i for i in known if len(known[i]) == 1 and not known[i].isascii()]
        return cls(False, frozenset(known[i] for i in _joined(tokenizer, characters, encode)))


def _need_none(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], encode: Encode) -> bool:
    """Return whether no id needs the space that the decoder puts between two of it."""
    if _spaced(tokenizer, ids) != ids:
        return False
    twice = {i: 2 * _decoded(tokenizer, [i]) for i in ids}
    found = encode(list(twice.values()))
    # Two signs may be a token of their own, as @@ next to @ in a molecule. Two letters that form
    # one token are parts of words.
    return all(
        two == [i, i]
        or (not twice[i].isalnum() and tokenizer.convert_ids_to_tokens(two) == [twice[i]])
        for i, two in zip(ids, found, strict=True)
    )


def _few(ids: Sequence[int]) -> list[int]:
    return list(ids[:: -(-len(ids) // SAMPLE) or 1])


def _joined(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], encode: Encode) -> list[int]:
    """Return the ids of which two are decoded with a space between them but encoded without."""
    spaced = _spaced(tokenizer, ids)
    found = encode([2 * _decoded(tokenizer, [i]) for i in spaced]) if spaced else []
    return [i for i, twice in zip(spaced, found, strict=True) if twice == [i, i]]


def _spaced(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[int]:
    """Return the ids of which two are decoded with a space between them."""
    texts = {i: _decoded(tokenizer, [i]) for i in ids}
    return [
        i for i, text in texts.items() if text and _decoded(tokenizer, [i, i]) == f"{text} {text}"
    ]


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))

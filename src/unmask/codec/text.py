"""Text <-> token ids: prompts, blanks, and the pieces that a picture of a canvas is made of.

A row is laid out as the model was trained: the start symbol if the tokenizer has one, then text,
then nothing. No end symbol follows a prompt, or the model would continue after the end.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from transformers import PreTrainedTokenizerBase

from unmask.codec.symbols import symbols
from unmask.errors import UserError, is_unicode

MAX_BLANK = 4096
MAX_TEMPLATES = 4096
_MARK = re.compile(r"\[MASK(?::([^\]\s]*))?\]")
# What people write for a blank elsewhere; an ellipsis in a text with no other sign of one as well.
_WORDS = r"(?:mask|blank|gap|fill|extra_id)[^\[\]<>{}()]{0,20}"
_BRACKETS = rf"\[+\s*{_WORDS}\]+|<+[\s|]*{_WORDS}>+|\{{+\s*{_WORDS}\}}+|\(\s*{_WORDS}\)"
_LIKE_A_MARK = re.compile(rf"{_BRACKETS}|_{{2,}}|\[_\]|\[\s*\]|\?{{2,}}|\.{{3,}}|…", re.IGNORECASE)


@dataclass(frozen=True)
class Blank:
    """A blank in a template, of ``shortest`` to ``longest`` tokens."""

    shortest: int
    longest: int


@dataclass(frozen=True)
class TextCodec:
    """A tokenizer seen as a codec.

    Args:
        tokenizer: Any Hugging Face tokenizer with a mask token.
    """

    tokenizer: PreTrainedTokenizerBase

    @property
    def mask_token_id(self) -> int:
        """The id of the mask token."""
        return int(self.tokenizer.mask_token_id)

    @property
    def pad_token_id(self) -> int:
        """The id that fills short rows; the mask id if the tokenizer has no padding token."""
        pad = self.tokenizer.pad_token_id
        return self.mask_token_id if pad is None else int(pad)

    @cached_property
    def start(self) -> list[int]:
        """The ids that every row begins with: the class or begin symbol, if there is one."""
        for token in (self.tokenizer.cls_token_id, self.tokenizer.bos_token_id):
            if token is not None:
                return [int(token)]
        return []

    @property
    def end(self) -> int | None:
        """The id that ends a document: the end or separator symbol, if there is one."""
        for token in (self.tokenizer.eos_token_id, self.tokenizer.sep_token_id):
            if token is not None:
                return int(token)
        return None

    @cached_property
    def symbols(self) -> dict[int, str]:
        """The names of the symbols that stand for no text, by their ids."""
        return symbols(self.tokenizer)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special symbols."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of several texts. A special symbol spelt out in a text is mere letters."""
        # A long text is no mistake here: it is cut into rows later.
        try:
            encoded = self.tokenizer(
                list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False
            )
        except (TypeError, UnicodeEncodeError) as error:
            if all(map(is_unicode, texts)):
                raise
            raise UserError(
                "a text holds half a character (a surrogate), as it comes from bytes that are not "
                "UTF-8; give valid text"
            ) from error
        return list(encoded["input_ids"])

    def spellings(self, text: str) -> list[list[int]]:
        """Return the ids of a text as it is written on its own and after a blank.

        A special symbol that a model may write, such as the end symbol, is a spelling of its name.

        Raises:
            UserError: If the tokenizer has no tokens for the text.
        """
        known = self.tokenizer.get_vocab()
        special = [[known[text]]] if text in self.tokenizer.all_special_tokens else []
        unknown = self.tokenizer.unk_token_id
        found = special + [
            ids for ids in self.encode_all([text, f" {text}"]) if ids and unknown not in ids
        ]
        if not found:
            raise UserError(f"this tokenizer has no tokens for {text!r}, so it is never written")
        return [ids for i, ids in enumerate(found) if ids not in found[:i]]

    def beginning(self, text: str, count: int) -> tuple[list[int], str]:
        """Return the first ``count`` ids of a text, and the part of it that they stand for."""
        if not self.tokenizer.is_fast:
            ids = self.encode(text)[:count]
            return ids, self.decode(ids)
        encoded = self.tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
            verbose=False,
        )
        ids, ends = encoded["input_ids"], encoded["offset_mapping"]
        return (ids, text) if len(ids) <= count else (ids[:count], text[: ends[count - 1][1]])

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids; special symbols other than the unknown token are left out."""
        skip = set(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id}
        kept = [i for i in ids if i not in skip]
        return str(self.tokenizer.decode(kept, clean_up_tokenization_spaces=False))

    def pieces(self, ids: list[int]) -> list[str]:
        """Return the text of each id on its own, so that the pieces in a row read as the text."""
        return [self._piece(token) for token in self.tokenizer.convert_ids_to_tokens(ids)]

    def _piece(self, token: str) -> str:
        if token == self.tokenizer.mask_token:
            return ""
        if token in self.tokenizer.all_special_tokens:
            return token
        if token.startswith("##"):
            return token[2:]
        if token.startswith("▁"):
            return " " + token[1:]
        text = str(self.tokenizer.convert_tokens_to_string([token]))
        # Word-piece tokenizers do not store the blank before a word, byte-level ones do.
        return " " + text if self._is_word_piece and text[:1].isalnum() else text

    @cached_property
    def _is_word_piece(self) -> bool:
        return any(token.startswith("##") for token in list(self.tokenizer.get_vocab())[:50_000])

    def template(self, text: str) -> list[str | Blank]:
        """Split a text at its blanks.

        ``[MASK]`` is a blank of one token, ``[MASK:5]`` of five, ``[MASK:3-8]`` of three to eight.
        The tokenizer's own mask token counts as ``[MASK]``.

        Raises:
            UserError: If a mark cannot be read.
        """
        text = text.replace(self.tokenizer.mask_token, "[MASK]")
        parts: list[str | Blank] = []
        end = 0
        for mark in _MARK.finditer(text):
            parts += [text[end : mark.start()], _blank(mark)]
            end = mark.end()
        return [part for part in [*parts, text[end:]] if part != ""]

    def rows(self, parts: list[str | Blank]) -> Iterator[tuple[list[int | None], tuple[int, ...]]]:
        """Yield every row that a template stands for, with the lengths of its blanks.

        A row holds None where a token is to be written. Of text before a blank the last space is
        left to the blank: tokenizers put it at the head of the next word.
        """
        lengths = _combinations([part for part in parts if isinstance(part, Blank)])
        encoded = [
            part if isinstance(part, Blank) else self._beside_blanks(parts, i)
            for i, part in enumerate(parts)
        ]
        for choice in lengths:
            sizes = iter(choice)
            row: list[int | None] = list(self.start)
            for part in encoded:
                row += [None] * next(sizes) if isinstance(part, Blank) else part
            yield row, choice

    def _beside_blanks(self, parts: list[str | Blank], index: int) -> list[int]:
        text = parts[index]
        assert isinstance(text, str)
        before_blank = index + 1 < len(parts)
        return self.encode(text.removesuffix(" ") if before_blank else text)


def like_a_mark(text: str) -> str | None:
    """Return the first part of a text that is no mark of a blank but looks meant as one."""
    found = [mark.group() for mark in _LIKE_A_MARK.finditer(text)]
    # Three dots end many a sentence.
    found.sort(key=lambda mark: mark.startswith((".", "…")))
    return found[0] if found else None


def _blank(mark: re.Match[str]) -> Blank:
    size = mark.group(1)
    if size is None:
        return Blank(1, 1)
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", size)
    if found is None:
        raise UserError(
            f"cannot read the blank {mark.group()}; write [MASK], [MASK:5] or [MASK:3-8]"
        )
    shortest, longest = int(found[1]), int(found[2] or found[1])
    if not 1 <= shortest <= longest <= MAX_BLANK:
        raise UserError(
            f"the blank {mark.group()} needs 1 <= shortest <= longest <= {MAX_BLANK} tokens"
        )
    return Blank(shortest, longest)


def _combinations(blanks: list[Blank]) -> list[tuple[int, ...]]:
    count = math.prod(blank.longest - blank.shortest + 1 for blank in blanks)
    if count > MAX_TEMPLATES:
        raise UserError(
            f"the blanks allow {count} combinations of lengths, more than {MAX_TEMPLATES}; "
            "narrow their ranges"
        )
    return list(product(*(range(blank.shortest, blank.longest + 1) for blank in blanks)))

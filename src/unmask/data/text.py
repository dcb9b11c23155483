"""Text <-> token ids: prompts, blanks, and the pieces that a picture of a canvas is made of.

A row is laid out as the model was trained: the start symbol if the tokenizer has one, then text,
then nothing. No end symbol follows a prompt, or the model would continue after the end.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby, product

from transformers import PreTrainedTokenizerBase

from unmask.data.added_tokens import misread
from unmask.data.encoding import (
    CARRIERS,
    encode_ahead,
    encode_all,
    encode_behind,
    encode_some,
    encoded,
    marks_a_beginning,
)
from unmask.data.pieces import Pieces
from unmask.data.spaces import Spaces
from unmask.data.special_tokens import symbols
from unmask.errors import UserError

MAX_BLANK = 4096
MAX_TEMPLATES = 4096
_SHOWN = 40
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
class Layout:
    """One row that a template stands for.

    Attributes:
        row: Ids, None where a token is to be written.
        sizes: The tokens of each of its n blanks.
        texts: The n + 1 given texts before, between and behind the blanks, as they were given.
    """

    row: list[int | None]
    sizes: tuple[int, ...]
    texts: tuple[str, ...]


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

    @property
    def unknown(self) -> int | None:
        """The id of what the tokenizer has no token for, None if there is none of its own.

        GPT-2 has one name for unknown, start and end, and no text that is unknown.
        """
        tokenizer = self.tokenizer
        unknown = tokenizer.unk_token_id
        others = (
            *(tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.cls_token_id),
            *(tokenizer.sep_token_id, tokenizer.mask_token_id),
        )
        return None if unknown is None or unknown in others else int(unknown)

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
        return encode_all(self.tokenizer, texts)

    def spellings(self, text: str) -> list[list[int]]:
        """Return the ids of a text as it is written on its own, after a blank and after a word.

        A special symbol that a model may write, such as the end symbol, is a spelling of its name.

        Raises:
            UserError: If the tokenizer has no tokens for the text.
        """
        known = self.tokenizer.get_vocab()
        special = [[known[text]]] if text in self.tokenizer.all_special_tokens else []
        unknown = self.tokenizer.unk_token_id
        spelt = [*self.encode_all([text, f" {text}"]), self.encode_behind(text)]
        found = special + [ids for ids in spelt if ids and unknown not in ids]
        if not found:
            raise UserError(f"this tokenizer has no tokens for {text!r}, so it is never written")
        return [ids for i, ids in enumerate(found) if ids not in found[:i]]

    def beginning(self, text: str, count: int) -> tuple[list[int], str]:
        """Return the first ``count`` ids of a text, and the part of it that they stand for."""
        if self.tokenizer.is_fast:
            found = encoded(self.tokenizer, text, return_offsets_mapping=True)
            ids, ends = found["input_ids"], found["offset_mapping"]
            if len(ids) <= count:
                return self.encode(text), text
            if self._left_out.isdisjoint(ids):
                return ids[:count], text[: ends[count - 1][1]]
        ids = self.encode(text)[:count]
        return ids, self.decode(ids)

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids; special symbols other than the unknown token are left out.

        A blank that the decoder puts where the text needs none is left out, see ``spaces``.
        """
        text = self.decode_plainly(ids)
        pattern = self.spaces.pattern
        return text if pattern is None else pattern.sub("", text)

    def decode_plainly(self, ids: list[int]) -> str:
        """Return the text as ``decode`` does, but with a blank between Chinese characters."""
        skip = self._left_out
        kept = [i for i in ids if i not in skip]
        if self.spaces.none:
            return "".join(self.tokenizer.convert_ids_to_tokens(kept))
        # Bytes of a character that an added word divides make no character, together or apart.
        parts = [(word, list(run)) for word, run in groupby(kept, self._misread.get)]
        return "".join(
            str(self.tokenizer.decode(run, clean_up_tokenization_spaces=False))
            if word is None
            else word * len(run)
            for word, run in parts
        )

    def text_pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the text that each id adds to the row: put together they are ``decode(ids)``."""
        kept = [i for i, token in enumerate(ids) if token not in self._left_out]
        found = dict(zip(kept, self._pieces.of([ids[i] for i in kept]), strict=True))
        return [found.get(i, "") for i in range(len(ids))]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return what a picture shows of each id; without special symbols, ``decode(ids)``.

        A mask has no text, another special symbol its name. What stands between two of them is
        decoded by itself, so that a character of which a token is still hidden is not complete: it
        is the replacement character U+FFFD.
        """
        found: list[str] = []
        for special, run in groupby(ids, self._left_out.__contains__):
            part = list(run)
            if special:
                names = self.tokenizer.convert_ids_to_tokens(part)
                found += [
                    "" if i == self.mask_token_id else n for i, n in zip(part, names, strict=True)
                ]
            else:
                found += self._pieces.of(part, self._carrier if found else ())
        return found

    def piece(self, token: int) -> str:
        """Return what an id adds behind a word."""
        return self.pieces([self.mask_token_id, token])[1]

    @cached_property
    def spaces(self) -> Spaces:
        """Which blanks are the decoder's own."""
        return Spaces.of(self.tokenizer, partial(encode_some, self.tokenizer))

    @cached_property
    def _misread(self) -> dict[int, str]:
        return misread(self.tokenizer)

    @cached_property
    def _pieces(self) -> Pieces:
        return Pieces(self.decode)

    @cached_property
    def _carrier(self) -> list[int]:
        return encode_some(self.tokenizer, ["a"])[0]

    @cached_property
    def _left_out(self) -> frozenset[int]:
        return frozenset(self.tokenizer.all_special_ids) - {self.unknown}

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

    def rows(self, parts: list[str | Blank]) -> Iterator[Layout]:
        """Yield every row that a template stands for.

        What ends in white space has the ids before a blank that it has before any word: most
        tokenizers put the last space at the head of the next word. Text behind a blank has the ids
        that it has behind a word.
        """
        lengths = _combinations([part for part in parts if isinstance(part, Blank)])
        encoded = [
            part if isinstance(part, Blank) else self._beside_blanks(parts, i)
            for i, part in enumerate(parts)
        ]
        texts = _between(parts)
        for choice in lengths:
            sizes = iter(choice)
            row: list[int | None] = list(self.start)
            for part in encoded:
                row += [None] * next(sizes) if isinstance(part, Blank) else part
            yield Layout(row, choice, texts)

    def count_rows(self, text: str) -> int:
        """Return how many rows a text stands for, one for each combination of blank lengths."""
        blanks = [part for part in self.template(text) if isinstance(part, Blank)]
        return math.prod(blank.longest - blank.shortest + 1 for blank in blanks)

    def _beside_blanks(self, parts: list[str | Blank], index: int) -> list[int]:
        text = parts[index]
        assert isinstance(text, str)
        spell = self.encode_behind if index else self.encode
        bare = text.removesuffix(" ")
        if index + 1 == len(parts) or not text[-1:].isspace():
            return spell(text)
        # Most texts end in one space, and a long one takes its time.
        if self._leaves_a_space and bare and not bare[-1].isspace() and bare != text:
            return spell(bare)
        return encode_ahead(spell, text, self.tokenizer.unk_token_id)

    @cached_property
    def _leaves_a_space(self) -> bool:
        """Whether one space at the end of a text is a part of the word that comes next."""
        unknown = self.tokenizer.unk_token_id
        pairs = zip(encode_some(self.tokenizer, CARRIERS), CARRIERS, strict=True)
        known = [(ids, text) for ids, text in pairs if ids and unknown not in ids]
        return bool(known) and all(
            encode_ahead(self.encode, f"{text} ", unknown) == ids for ids, text in known
        )

    def encode_behind(self, text: str) -> list[int]:
        """Return the ids that a text has behind other text."""
        if text and self._marks_a_beginning:
            return encode_behind(self.tokenizer, text)
        return self.encode(text)

    @cached_property
    def _marks_a_beginning(self) -> bool:
        return marks_a_beginning(self.tokenizer)


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
    found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", size, re.ASCII)
    if found is None:
        shown = mark.group() if len(mark.group()) <= _SHOWN else f"{mark.group()[:_SHOWN]}..."
        raise UserError(f"cannot read the blank {shown}; write [MASK], [MASK:5] or [MASK:3-8]")
    shortest, longest = int(found[1]), int(found[2] or found[1])
    if not 1 <= shortest <= longest <= MAX_BLANK:
        raise UserError(
            f"the blank {mark.group()} needs 1 <= shortest <= longest <= {MAX_BLANK} tokens"
        )
    return Blank(shortest, longest)


def _between(parts: list[str | Blank]) -> tuple[str, ...]:
    """Return the texts before, between and behind the blanks of a template."""
    texts = [""]
    for part in parts:
        if isinstance(part, Blank):
            texts.append("")
        else:
            texts[-1] += part
    return tuple(texts)


def _combinations(blanks: list[Blank]) -> list[tuple[int, ...]]:
    count = math.prod(blank.longest - blank.shortest + 1 for blank in blanks)
    if count > MAX_TEMPLATES:
        raise UserError(
            f"the blanks allow {count} combinations of lengths, more than {MAX_TEMPLATES}; "
            "narrow their ranges"
        )
    return list(product(*(range(blank.shortest, blank.longest + 1) for blank in blanks)))

"""Text <-> token ids: the ``Codec`` of any Hugging Face tokenizer.

A sequence is laid out as the model was trained: the start symbol if the tokenizer has one, then the
text. No end symbol follows a prompt, or the model would continue after the end of a document.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from unmask.data import templates
from unmask.data.added_tokens import misread
from unmask.data.encoding import (
    CARRIERS,
    encode_after,
    encode_all,
    encode_before,
    encode_some,
    encoded,
    marks_a_beginning,
)
from unmask.data.pieces import Pieces
from unmask.data.spaces import Spaces
from unmask.data.special_tokens import symbols
from unmask.data.templates import Blank, Layout, Part
from unmask.errors import UserError


@dataclass(frozen=True)
class TextCodec:
    """The ``Codec`` of a tokenizer.

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
        """The id that pads short sequences; the mask id if there is no padding token."""
        pad = self.tokenizer.pad_token_id
        return self.mask_token_id if pad is None else int(pad)

    @property
    def unknown(self) -> int | None:
        """The id of the unknown token; None if another special token has the same id.

        GPT-2 has one token for unknown, start and end, and encodes every text without it.
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
        """The ids that every sequence begins with: the class or start symbol, if there is one."""
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
        """The symbols that stand for no text: names by ids."""
        return symbols(self.tokenizer)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special symbols."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of several texts; a special symbol that a text spells is plain letters."""
        return encode_all(self.tokenizer, texts)

    def spellings(self, text: str) -> list[list[int]]:
        """Return the ids of a text on its own, after a space and after a word, without duplicates.

        The name of a special symbol that a model may generate, such as the end symbol, is spelt by
        that symbol too.

        Raises:
            UserError: If the tokenizer has no tokens for the text.
        """
        known = self.tokenizer.get_vocab()
        special = [[known[text]]] if text in self.tokenizer.all_special_tokens else []
        unknown = self.tokenizer.unk_token_id
        spelt = [*self.encode_all([text, f" {text}"]), self.encode_after(text)]
        found = special + [ids for ids in spelt if ids and unknown not in ids]
        if not found:
            raise UserError(f"this tokenizer has no tokens for {text!r}, so it is never generated")
        return [ids for i, ids in enumerate(found) if ids not in found[:i]]

    def beginning(self, text: str, count: int) -> tuple[list[int], str]:
        """Return the first ``count`` ids of a text, and the part of the text that they encode."""
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
        """Return the text of ids, without special symbols other than the unknown token.

        Spaces that the decoder adds and that carry no information are removed; see ``spaces``.
        """
        text = self.decode_plainly(ids)
        pattern = self.spaces.pattern
        return text if pattern is None else pattern.sub("", text)

    def decode_plainly(self, ids: list[int]) -> str:
        """Return the text as ``decode`` does, but keep the spaces between Chinese characters."""
        skip = self._left_out
        kept = [i for i in ids if i not in skip]
        if self.spaces.none:
            return "".join(self.tokenizer.convert_ids_to_tokens(kept))
        # An added word inside a multi-byte character leaves incomplete characters on both sides.
        parts = [(word, list(run)) for word, run in groupby(kept, self._misread.get)]
        return "".join(
            str(self.tokenizer.decode(run, clean_up_tokenization_spaces=False))
            if word is None
            else word * len(run)
            for word, run in parts
        )

    def units(self, text: str) -> dict[str, int]:
        """Return the Unicode characters of a text, and its words plus one for every line end."""
        return {"characters": len(text), "words": len(text.split()) + text.count("\n")}

    def text_pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the text that each id adds; concatenated they are ``decode(ids)``."""
        kept = [i for i, token in enumerate(ids) if token not in self._left_out]
        found = dict(zip(kept, self._pieces.of([ids[i] for i in kept]), strict=True))
        return [found.get(i, "") for i in range(len(ids))]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return what a rendering shows for each id.

        A mask shows nothing, another special symbol its name. The ids between two special symbols
        are decoded on their own: a character with a token that is still masked shows as the
        replacement character U+FFFD.
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
        """Return the text that an id adds after a word."""
        return self.pieces([self.mask_token_id, token])[1]

    @cached_property
    def spaces(self) -> Spaces:
        """Which spaces the decoder adds."""
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

    def not_data(self, vocab_size: int) -> list[int]:
        """Return the ids below ``vocab_size`` that occur in no text.

        These are the special symbols other than unknown and end of text, and the ids by which a
        model's vocabulary exceeds its tokenizer's.
        """
        tokenizer = self.tokenizer
        text = {tokenizer.unk_token_id, tokenizer.eos_token_id, tokenizer.sep_token_id}
        known = set(tokenizer.get_vocab().values()) - (set(tokenizer.all_special_ids) - text)
        return sorted(set(range(vocab_size)) - known)

    def check_entries(self, entries: int) -> None:
        """Raise a UserError unless a model has an embedding for every id that a text can have.

        Args:
            entries: Number of embeddings.
        """
        tokenizer = self.tokenizer
        laid_out = {*self.start, self.end, tokenizer.mask_token_id, tokenizer.pad_token_id}
        beyond = [
            token
            for token, i in tokenizer.get_vocab().items()
            if i >= entries and (i in laid_out or i not in self.symbols)
        ]
        if beyond:
            more = f" and {len(beyond) - 1} more" if beyond[1:] else ""
            raise UserError(
                f"the tokenizer has {beyond[0]!r}{more} beyond the {entries} embeddings of the "
                "model; it belongs to another model, or the model was saved without "
                "resize_token_embeddings"
            )

    def save(self, directory: Path) -> None:
        """Write the files of the tokenizer into a folder."""
        self.tokenizer.save_pretrained(directory)

    def template(self, text: str) -> list[Part]:
        """Split a text at its blanks.

        ``[MASK]`` is a blank of one token, ``[MASK:5]`` of five, ``[MASK:3-8]`` of three to eight.
        The tokenizer's own mask token counts as ``[MASK]``.

        Raises:
            UserError: If a blank cannot be read.
        """
        return templates.parse(text.replace(self.tokenizer.mask_token, "[MASK]"))

    def rows(self, parts: Sequence[Part]) -> Iterator[Layout]:
        """Yield every sequence that a template stands for.

        Most tokenizers join the space before a word to the word. So a text that ends in white space
        gets the ids that it has before any word, and a text after a blank those that it has after a
        word.
        """
        encoded = [
            part if isinstance(part, Blank) else self._encode_part(parts, i)
            for i, part in enumerate(parts)
        ]
        return templates.layouts(parts, encoded, self.start)

    def count_rows(self, text: str) -> int:
        """Return how many sequences a text stands for, one for each combination of lengths."""
        return templates.count_layouts(self.template(text))

    def _encode_part(self, parts: Sequence[Part], index: int) -> list[int]:
        text = parts[index]
        assert isinstance(text, str)
        spell = self.encode_after if index else self.encode
        bare = text.removesuffix(" ")
        if index + 1 == len(parts) or not text[-1:].isspace():
            return spell(text)
        # The common case of one space at the end needs no search, which is slow for a long text.
        if self._leaves_a_space and bare and not bare[-1].isspace() and bare != text:
            return spell(bare)
        return encode_before(spell, text, self.tokenizer.unk_token_id)

    @cached_property
    def _leaves_a_space(self) -> bool:
        """Whether a space at the end of a text belongs to the first token of the next word."""
        unknown = self.tokenizer.unk_token_id
        pairs = zip(encode_some(self.tokenizer, CARRIERS), CARRIERS, strict=True)
        known = [(ids, text) for ids, text in pairs if ids and unknown not in ids]
        return bool(known) and all(
            encode_before(self.encode, f"{text} ", unknown) == ids for ids, text in known
        )

    def encode_after(self, text: str) -> list[int]:
        """Return the ids that a text has after other text."""
        if text and self._marks_a_beginning:
            return encode_after(self.tokenizer, text)
        return self.encode(text)

    @cached_property
    def _marks_a_beginning(self) -> bool:
        return marks_a_beginning(self.tokenizer)

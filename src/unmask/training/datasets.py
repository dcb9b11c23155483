"""Training and validation data: read first, laid out in rows once there is a tokenizer."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor

from unmask.data import unknown_tokens
from unmask.data.codec import Codec
from unmask.data.documents import Documents, Piece
from unmask.data.pixels import PixelCodec
from unmask.data.sources import Note, check_field
from unmask.data.text import TextCodec
from unmask.data.text_rows import Text
from unmask.training.recipe import Recipe
from unmask.training.rows import Batcher, MakeBatch, PackedDataset
from unmask.training.splitting import Cut, after, before, find_cut
from unmask.training.stream import lines_of, tokenize


class Items(Protocol):
    """A data set: rows of ids and what else belongs to each row, by name."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Material:
    """Data as ids.

    Attributes:
        items: The training data.
        batcher: Makes a batch of stacked items and chooses what is noised.
        noised: All ids that can be noised, shape (N,) or (N, L), integers; for schedules made from
            counts.
        validation: Returns the validation text, of a number of rows at most; None for no
            validation.
        facts: What the checkpoint's card says about the data.
        notes: Lines about data that is left out, and about unknown tokens.
        records: What the card says about the length of records; empty for other data.
        length: Tokens of a row, where the data decide it; else None.
    """

    items: Items
    batcher: MakeBatch
    noised: Tensor
    validation: Callable[[int], Text] | None
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()
    records: dict[str, Any] = field(default_factory=dict)
    length: int | None = None


class Source(Protocol):
    """Data that has been read, of one modality."""

    @property
    def texts(self) -> Iterable[str]:
        """The training texts, for a fresh tokenizer."""
        ...

    @property
    def everything(self) -> Iterable[str | bytes]:
        """All data in pieces, the validation data last."""
        ...

    @property
    def codec(self) -> PixelCodec | None:
        """The codec that the data decide; None if it belongs to the model."""
        ...

    def lay_out(self, codec: Any, recipe: Recipe, folder: Path) -> Material:
        """Lay everything out in rows; large files may go to a folder."""
        ...


def fingerprint(parts: Iterable[str | bytes]) -> str:
    """Return a hash of texts or bytes in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


@dataclass(frozen=True)
class Texts:
    """Training documents, and validation documents from their own source or the end of the data.

    Attributes:
        source: The training documents, up to the cut.
        cut: Where the validation documents begin in the source; None if there are none in it.
        validation: A source of validation documents.
    """

    by_line: ClassVar[bool] = False
    """Whether every line of a text file is a document."""

    source: Documents
    cut: Cut | None
    validation: Documents | None
    codec = None

    @classmethod
    def read(
        cls, data: str, validation: str | None, field: str, recipe: Recipe, note: Note
    ) -> Self:
        """Read the sources once, to find errors in them; see ``data.Documents``."""
        names = [data] if validation is None else [data, validation]
        check_field(field, *names)
        source, *others = (Documents(name, field, note=note, by_line=cls.by_line) for name in names)
        share = recipe.data.validation_share
        if share and not others:
            return cls(source, cls.find_cut(source, share), None)
        for documents in (source, *others):
            deque(documents.pieces(), maxlen=0)
        return cls(source, None, next(iter(others), None))

    @staticmethod
    def find_cut(source: Documents, share: float) -> Cut | None:
        """Return where the validation documents begin: the last ``share`` of all characters."""
        return find_cut(source.pieces, share)

    def learned(self) -> Iterator[Piece]:
        """Yield the training documents."""
        return before(self.source.pieces(), self.cut)

    def held_out(self) -> Iterator[Piece]:
        """Yield the validation documents."""
        if self.validation is not None:
            yield from self.validation.pieces()
        elif self.cut is not None:
            yield from after(self.source.pieces(), self.cut)

    @property
    def texts(self) -> Iterator[str]:
        """The training text line by line, for a fresh tokenizer."""
        return (line for line, _ in lines_of(self.learned()))

    @property
    def everything(self) -> Iterator[str]:
        """All texts in pieces, the validation texts last."""
        return (piece.text for piece in chain(self.learned(), self.held_out()))

    def lay_out(self, codec: TextCodec, recipe: Recipe, folder: Path) -> Material:
        """Cut everything into rows of the recipe's length; the ids are in a file in a folder."""
        data = recipe.data
        stream = tokenize(self.learned(), codec, data.skip_empty_lines, folder)
        batcher = Batcher(
            data.prefix_share,
            data.prefix_min,
            data.prefix_max,
            data.random_length_share,
            len(codec.start),
        )
        most, of_rows = recipe.training.evaluation_rows, None
        text = _beginning(self.held_out(), codec, most * (data.length - len(codec.start)))
        if text.strip():
            full = Text.from_string(text, codec, data.length, most)
            # Only the beginning of the text is encoded again.
            _, text = codec.beginning(text, most * (data.length - len(codec.start)))

            def of_rows(rows: int) -> Text:
                return full if rows >= most else Text.from_string(text, codec, data.length, rows)

        return Material(
            items=PackedDataset(stream, codec.start, data.length),
            batcher=batcher,
            noised=stream,
            validation=of_rows,
            facts={"data_tokens": len(stream)},
            notes=unknown_tokens.noted(codec, self.texts, stream),
        )


def _beginning(pieces: Iterable[Piece], codec: Codec, count: int) -> str:
    """Return the beginning of documents as one text; each of several documents ends its line.

    It holds at least ``count`` tokens if the documents do, and some more, so that the last of these
    tokens are the same as in the whole text.
    """
    text, documents, ended, need = "", 0, False, 4 * count
    for piece in pieces:
        # Another document follows, so there are several.
        text += "\n" if ended and not text.endswith("\n") else ""
        text, ended = text + piece.text, piece.last
        documents += ended
        if len(text) >= need:
            if len(codec.encode(text)) > count + 100:
                return text
            need = 2 * len(text)
    return text + "\n" if documents > 1 and not text.endswith("\n") else text

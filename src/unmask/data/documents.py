"""Documents of a source, read as often as needed and never held in memory all at once.

A text file is one document, and so is every row of a table and every record of a FASTA file.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from unmask.data import fasta
from unmask.data.sources import (
    KNOWN,
    Note,
    check_whole,
    files_in,
    note_plain,
    path_of,
    read_hub,
    without_text,
)
from unmask.data.tables import READERS, Row, read_table
from unmask.data.text_files import PIECE, ending, read_lines, read_pieces
from unmask.errors import UserError


class Piece(NamedTuple):
    """A part of a document: its characters, and whether it is the last part."""

    text: str
    last: bool


@dataclasses.dataclass
class Documents:
    """The documents of a source, in order.

    Args:
        source: A path, a hub data set id, or ``pydoc``; see ``data.sources``.
        field: The column of the text, for tables and hub data sets; see ``check_field``.
        split: The split of a hub data set; see ``check_split``.
        note: Called once with each line about what is left out.
        by_line: Read every line of a text file as a document.
    """

    source: str
    field: str = "text"
    split: str = "train"
    note: Note = warnings.warn
    by_line: bool = False
    _noted: set[str] = dataclasses.field(default_factory=set)

    def pieces(self) -> Iterator[Piece]:
        """Yield all documents in pieces of at most ``PIECE`` characters.

        Raises:
            UserError: If there is no such source, a file is binary or in an unknown encoding, a row
                has no text, or all texts are empty.
        """
        blank = True
        for piece in chain.from_iterable(map(_cut, self._all())):
            blank = blank and not piece.text.strip()
            yield piece
        if blank:
            raise UserError(f"{self.source} holds no text")

    def _all(self) -> Iterator[Piece]:
        path = path_of(self.source)
        if self.source == "pydoc" and not os.path.exists(path):
            yield from map(_whole, _pydoc())
        elif os.path.isdir(path):
            for file in files_in(path, KNOWN, self._say):
                yield from self._file(file)
        elif os.path.isfile(path):
            yield from self._file(path)
        else:
            rows = read_hub(self.source, self.split, [self.field])
            yield from map(_whole, self._column(rows, self.source))

    def _file(self, path: Path) -> Iterator[Piece]:
        if ending(path) in READERS:
            rows = read_table(path, [self.field])
            yield from map(_whole, self._column(rows, str(path)))
        elif ending(path) in fasta.ENDINGS:
            yield from self._sequences(path)
        elif self.by_line:
            lines: Iterable[Row] = ({self.field: line} for line in read_lines(path))
            yield from map(_whole, self._column(lines, str(path)))
            note_plain(path, self._say)
        else:
            yield from _with_last(read_pieces(path))
            note_plain(path, self._say)

    def _sequences(self, path: Path) -> Iterator[Piece]:
        total = empty = 0
        for _, sequence in fasta.read_sequences(path):
            total += 1
            lengths = 0
            for piece in _with_last(_in_pieces(sequence)):
                lengths += len(piece.text)
                if lengths:
                    yield piece
            empty += not lengths
        self._say_empty(empty, total, "records", path)

    def _column(self, rows: Iterable[Row], source: str) -> Iterator[str]:
        total = empty = 0
        for total, row in enumerate(rows, 1):
            text = row.get(self.field, 0)
            if text is None or text == "" or (isinstance(text, str) and not text.strip()):
                empty += 1
                continue
            if not isinstance(text, str):
                raise without_text(total, source, self.field, row, "choose one with --field")
            check_whole(text, total, source)
            yield text
        self._say_empty(empty, total, "rows", source)

    def _say_empty(self, empty: int, total: int, what: str, source: object) -> None:
        if empty:
            self._say(f"left out {empty} of {total} {what} of {source}, which are empty")

    def _say(self, line: str) -> None:
        if line not in self._noted:
            self._noted.add(line)
            self.note(line)


def read_documents(
    source: str, field: str = "text", split: str = "train", note: Note = warnings.warn
) -> list[str]:
    """Return the documents of a source, in order; the arguments are those of ``Documents``.

    Raises:
        UserError: As ``Documents.pieces``.
    """
    return list(whole_documents(Documents(source, field, split, note).pieces()))


def whole_documents(pieces: Iterable[Piece]) -> Iterator[str]:
    """Yield the documents that consist of the given pieces."""
    parts: list[str] = []
    for text, last in pieces:
        parts.append(text)
        if last:
            yield "".join(parts)
            parts.clear()


def pieces_of(documents: Iterable[str]) -> Iterator[Piece]:
    """Yield every document as a single piece."""
    return map(_whole, documents)


def _whole(document: str) -> Piece:
    return Piece(document, last=True)


def _cut(piece: Piece) -> Iterator[Piece]:
    """Split a piece into pieces of at most ``PIECE`` characters."""
    text, last = piece
    for begin in range(0, max(len(text), 1), PIECE):
        end = begin + PIECE
        yield Piece(text[begin:end], last and end >= len(text))


def _with_last(parts: Iterable[str]) -> Iterator[Piece]:
    """Yield the parts of one document, the last one marked; an empty piece if there are none."""
    held = ""
    for part in parts:
        if held:
            yield Piece(held, last=False)
        held = part
    yield Piece(held, last=True)


def _in_pieces(lines: Iterable[str]) -> Iterator[str]:
    """Join lines into pieces of about ``PIECE`` characters."""
    held: list[str] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= PIECE:
            yield "".join(held)
            held, size = [], 0
    yield "".join(held)


def joined(documents: Sequence[str]) -> str:
    """Return documents as one text to score; several documents are separated by line ends."""
    if len(documents) == 1:
        return documents[0]
    return "".join(text if text.endswith("\n") else text + "\n" for text in documents)


def _pydoc() -> Iterator[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise UserError("this Python was built without pydoc's topics; pass a text file") from error
    yield from (topics[name] for name in sorted(topics))

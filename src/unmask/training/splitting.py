"""The cut between the training documents and the validation documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from unmask.data.documents import Piece, joined, pieces_of, whole_documents


class Cut(NamedTuple):
    """A position in a source: a number of whole documents and of characters of the next one."""

    documents: int
    characters: int


def find_cut(read: Callable[[], Iterator[Piece]], share: float) -> Cut | None:
    """Return the position after which the last ``share`` of all characters begins.

    It is at a line end if there is one near.

    Args:
        read: Yields the documents from their beginning; called twice.
        share: From 0 to 1.

    Returns:
        None if nothing is left after it.
    """
    keep = round(sum(len(piece.text) for piece in read()) * (1 - share))
    documents = characters = line = 0
    for text, last in read():
        # Within the last fifth of what is kept of this document, or nowhere.
        first = max(int(0.8 * keep) - characters, 0)
        found = text.rfind("\n", first, max(keep - characters, 0))
        line = line if found < 0 else characters + found + 1
        characters += len(text)
        if characters > keep:
            return Cut(documents, line or keep)
        if last:
            keep -= characters
            documents, characters, line = documents + 1, 0, 0
    return None


def before(pieces: Iterable[Piece], cut: Cut | None) -> Iterator[Piece]:
    """Yield what is before a cut; everything if there is none."""
    if cut is None:
        yield from pieces
        return
    for inside, rest, text, last in _placed(pieces, cut):
        if rest <= 0:
            return
        ends = last if inside else len(text) >= rest
        yield Piece(text if inside else text[:rest], ends)


def after(pieces: Iterable[Piece], cut: Cut) -> Iterator[Piece]:
    """Yield what is after a cut."""
    for inside, rest, text, last in _placed(pieces, cut):
        if not inside and len(text) >= rest:
            yield Piece(text[max(rest, 0) :], last)


def _placed(pieces: Iterable[Piece], cut: Cut) -> Iterator[tuple[bool, int, str, bool]]:
    """Yield each piece, whether its document ends before a cut, and the rest up to the cut."""
    documents, rest = 0, cut.characters
    for text, last in pieces:
        inside = documents < cut.documents
        yield inside, 1 if inside else rest, text, last
        if not inside:
            rest -= len(text)
        if last:
            documents += 1
            # After the document with the cut, nothing is left up to it.
            rest = cut.characters if documents <= cut.documents else 0


def split(documents: Sequence[str], share: float) -> tuple[list[str], str]:
    """Return the training documents, and the last ``share`` of the characters as one text.

    The cut is at a line end if there is one near.
    """
    cut = find_cut(lambda: pieces_of(documents), share)
    learn = list(whole_documents(before(pieces_of(documents), cut)))
    return learn, "" if cut is None else joined(
        [*whole_documents(after(pieces_of(documents), cut))]
    )

"""The cells of tokens on a grid of characters, with lines broken between words.

A token keeps its cell during a replay, so the picture does not move while masks become words.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from unmask.pipelines.picture_trace import PictureFrame
from unmask.pipelines.trace import HIDDEN, Snapshot

UNKNOWN = " ???"
"""Placeholder for a token that is never revealed: about as wide as an English one."""
_MOST_NEWLINES = 2


@dataclass(frozen=True)
class Cell:
    """The place of a token: its line, its first column and its width in columns."""

    line: int
    column: int
    width: int


@dataclass(frozen=True)
class _Token:
    """A piece for the line breaker: ``before`` newlines and ``gap`` blanks precede it."""

    before: int
    gap: int
    width: int
    after: int
    ends_word: bool


def reserved(snapshots: Iterable[Snapshot], start: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the last known piece of each position, which sets the width of its cell.

    A revealed token without text has width 0: the next tokens complete its character.

    Args:
        snapshots: Snapshots of one track, in order.
        start: The last known pieces before them.
    """
    pieces = list(start)
    for snapshot in snapshots:
        pieces += [UNKNOWN] * (len(snapshot.pieces) - len(pieces))
        for index, (piece, state) in enumerate(zip(snapshot.pieces, snapshot.status, strict=True)):
            if piece or state not in HIDDEN:
                pieces[index] = piece
    return tuple(pieces)


def arrange(pieces: Sequence[str], columns: int) -> list[Cell]:
    """Return the place of each piece on a page that is ``columns`` characters wide.

    Lines break between words, inside a word only if it is longer than a line. A piece longer than a
    line is cut to one line. The blank before a word is not part of its cell. The cell of an empty
    piece has width 0.
    """
    cells: list[Cell] = []
    line = column = 0
    for word in _words([_token(piece) for piece in pieces]):
        first = word[0]
        if first.before:
            line, column = line + first.before, 0
        # At the start of a line, one blank belongs to the tokenizer; more are an indentation.
        gap = first.gap if column or first.gap > 1 else 0
        length = sum(token.width for token in word)
        if column and column + gap + length > columns:
            line, column, gap = line + 1, 0, 0
        column += min(gap, columns // 2)
        for token in word:
            width = min(token.width, columns)
            if column + width > columns:
                line, column = line + 1, 0
            cells.append(Cell(line, column, width))
            line, column = line + token.after, 0 if token.after else column + width
    return cells


def fit(piece: str, width: int) -> str:
    """Return the visible part of a piece, without line breaks, in exactly ``width`` columns."""
    if width == 0:
        return ""
    text = one_line(piece)
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…"


def one_line(text: str) -> str:
    """Return a text without line breaks and without characters that could break a layout."""
    return _printable(text).strip().replace("\n", " ")


def counts(snapshot: Snapshot | PictureFrame) -> str:
    """Return the cost so far as text: steps, network calls, seconds."""
    calls = "call" if snapshot.nfe == 1 else "calls"
    return f"step {snapshot.step} · {snapshot.nfe} {calls} · {snapshot.seconds:.2f} s"


def _token(piece: str) -> _Token:
    if not piece:
        return _Token(0, 0, 0, 0, False)
    text = _printable(piece)
    core = text.strip()
    if not core:
        newlines = min(text.count("\n"), _MOST_NEWLINES)
        return _Token(0, 0, 1 if newlines else max(len(text), 1), newlines, True)
    head = text[: len(text) - len(text.lstrip())]
    tail = text[len(text.rstrip()) :]
    return _Token(
        before=min(head.count("\n"), _MOST_NEWLINES),
        gap=len(head) - head.rfind("\n") - 1,
        width=max(cell_len(core.replace("\n", " ")), 1),
        after=min(tail.count("\n"), _MOST_NEWLINES),
        ends_word=bool(tail),
    )


def _words(tokens: Iterable[_Token]) -> Iterator[list[_Token]]:
    word: list[_Token] = []
    for token in tokens:
        if word and (token.gap or token.before or word[-1].ends_word):
            yield word
            word = []
        word.append(token)
    if word:
        yield word


def _printable(piece: str) -> str:
    """Return a piece without characters that move a cursor, change direction or fail to encode."""
    if piece.isascii() and piece.isprintable():
        return piece
    text = piece.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(map(_printable_character, text))


def _printable_character(character: str) -> str:
    category = unicodedata.category(character)
    if character in "\n\v\f" or category in ("Zl", "Zp"):
        return "\n"
    if character == "\t" or category == "Zs":
        return " "
    # With joiners and variation selectors a width would depend on the neighbours.
    if category == "Cf" or "\ufe00" <= character <= "\ufe0f":
        return ""
    return "\ufffd" if category in ("Cc", "Cs", "Co", "Cn") else character

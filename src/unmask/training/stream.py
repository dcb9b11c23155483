"""Tokenise documents into one stream of ids, which is kept in a file and not in memory.

A long document is tokenised in parts. The cuts are where the tokens on both sides are the same as
in one piece, which is tested with the tokenizer.
"""

from __future__ import annotations

import mmap
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmask.data.codec import Codec
from unmask.data.documents import Piece
from unmask.data.text_files import PIECE
from unmask.errors import UserError

PART = 2**18
"""Characters of one or several documents that are tokenised at once."""
MANY = 1000
"""Documents that are tokenised at once, if they are at most ``PART`` characters together."""
Ids = NDArray[np.int32]
SIGHT = 1024
"""Characters on both sides of a cut that are tokenised to test it."""
NEAR = 8192
"""Characters in which a cut is searched first."""
_TRIES = 32
_PLACES = re.compile(r"(?<=\n)(?=\S)|(?<=\S)(?=\s)|(?<=\s)(?=\S)")


def tokenize(
    pieces: Iterable[Piece],
    codec: Codec,
    skip_empty_lines: bool = False,
    folder: Path | None = None,
) -> Tensor:
    """Return all documents, each followed by the end symbol, as ids of shape (N,), int32.

    Args:
        pieces: The documents; those without text are left out.
        codec: The tokenizer.
        skip_empty_lines: Leave out lines without text.
        folder: Folder of the file with the ids, which has no name and ends with their use; None
            for the system's folder of temporary files.

    Raises:
        UserError: If the disk is full.
    """
    return stored(_with_ends(encoded(pieces, codec, skip_empty_lines), codec), folder)


def _with_ends(parts: Iterable[tuple[Ids, bool]], codec: Codec) -> Iterator[Sequence[int] | Ids]:
    for ids, last in parts:
        yield ids
        if last and codec.end is not None:
            yield [codec.end]


def encoded(
    pieces: Iterable[Piece], codec: Codec, skip_empty_lines: bool = False
) -> Iterator[tuple[Ids, bool]]:
    """Yield ids, shape (n,), int32, and whether a document ends with them; see ``tokenize``."""
    waiting: list[Piece] = []
    size = 0
    for part in _parts(_full_lines(pieces) if skip_empty_lines else pieces, codec):
        waiting.append(part)
        size += len(part.text)
        if size >= PART or len(waiting) == MANY:
            yield from _encode(waiting, codec)
            waiting, size = [], 0
    yield from _encode(waiting, codec)


def _encode(parts: list[Piece], codec: Codec) -> list[tuple[Ids, bool]]:
    if not parts:
        return []
    encoded = codec.encode_all([text for text, _ in parts])
    # Arrays, not lists: numbers as Python objects make memory grow.
    arrays = [np.asarray(ids, dtype=np.int32) for ids in encoded]
    return [(ids, last) for ids, (_, last) in zip(arrays, parts, strict=True)]


def _parts(pieces: Iterable[Piece], codec: Codec) -> Iterator[Piece]:
    """Yield documents with text in parts that can be tokenised separately."""
    held, begun, size = "", False, PART
    for text, last in pieces:
        held += text
        while len(held) > size + 2 * SIGHT:
            place = cut_of(held[: size + SIGHT], codec)
            if place and (begun or held[:place].strip()):
                yield Piece(held[:place], last=False)
                held, begun, size = held[place:], True, PART
            else:
                # Search further on, so that no position is tried twice.
                size *= 2
        if last:
            if begun or held.strip():
                yield Piece(held, last=True)
            held, begun, size = "", False, PART


def cut_of(text: str, codec: Codec) -> int:
    """Return a position near the end of a text at which a cut changes no token; 0 for none.

    A cut is tested on the ``SIGHT`` characters before and after it. The candidates are the ends of
    lines, then those of words, then multiples of ``SIGHT`` for texts without spaces.
    """
    reach = len(text) - SIGHT
    places = [found.start() for found in _PLACES.finditer(text, max(reach - NEAR, 1), reach)]
    lines = [place for place in places if text[place - 1] == "\n"]
    last = reach // SIGHT
    steps = [n * SIGHT for n in range(last, max(last - _TRIES, 0), -1)]
    for place in [*lines[: -_TRIES - 1 : -1], *places[: -_TRIES - 1 : -1], *steps]:
        left, right = text[max(place - SIGHT, 0) : place], text[place : place + SIGHT]
        both, *sides = codec.encode_all([left + right, left, right])
        if both == [*sides[0], *sides[1]]:
            return place
    return 0


def lines_of(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Yield documents line by line; a line that is longer than a piece is cut."""
    held = ""
    for text, last in pieces:
        lines = (held + text).splitlines(keepends=True)
        # The next piece may begin with the second half of a line end.
        held = lines.pop() if lines and not last and len(lines[-1]) < PIECE else ""
        ends = [False] * (len(lines) - 1) + [last]
        yield from map(Piece, lines, ends) if lines else [Piece("", last)]


def _full_lines(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Yield documents without their lines without text, in pieces of about the same size."""
    held: list[str] = []
    size = 0
    for line, last in lines_of(pieces):
        if line.strip():
            held.append(line)
            size += len(line)
        if last or size >= PIECE:
            yield Piece("".join(held), last)
            held, size = [], 0


def stored(parts: Iterable[Sequence[int] | Ids], folder: Path | None = None) -> Tensor:
    """Write ids to a file and return them as a tensor that maps it, shape (N,), int32.

    Raises:
        UserError: If the disk is full.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            for ids in parts:
                file.write(np.asarray(ids, dtype=np.int32).tobytes())
            file.flush()
            if not file.tell():
                return torch.empty(0, dtype=torch.int32)
            # A private view, which torch accepts without a warning; it is never written to.
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise UserError(
            f"could not keep the tokens of the data in {folder or tempfile.gettempdir()}: "
            f"{error.strerror or error}"
        ) from error
    if hasattr(mmap, "MADV_RANDOM"):
        view.madvise(mmap.MADV_RANDOM)
    return torch.frombuffer(view, dtype=torch.int32)

"""Opening text files: compressed or not, in the Unicode encoding of their byte order mark."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from unmask.errors import UserError, explained

PIECE = 2**20
"""Characters of a text that are read at a time."""
PACKED = (".gz", ".bz2", ".xz", ".zst")
"""Endings of compressed files."""
# UTF-32 first: its byte order mark begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def ending(path: Path) -> str:
    """Return the ending of a file in lower case, ignoring that of its compression."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in PACKED else suffix


@contextmanager
def open_text(path: Path, newline: str | None = "") -> Iterator[TextIO]:
    """Open a file as text; a byte order mark sets the encoding and is not part of the text.

    Args:
        path: The file, which may be compressed.
        newline: Translation of line ends as for ``open``; none by default.

    Raises:
        UserError: If the file cannot be read, also while the context is active; if it is not UTF-8
            and has no byte order mark.
    """
    try:
        with open_bytes(path) as file:
            start = file.peek(4)[:4]
            encoding = next(
                (name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8"
            )
            with io.TextIOWrapper(file, encoding, newline=newline) as text:
                try:
                    yield text
                except UnicodeDecodeError as error:
                    # The error counts from the start of the block that was read last.
                    place = file.tell() - len(error.object) + error.start
                    raise _other_encoding(path, encoding, place) from error
    except _damage() as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {reason}") from error


def _damage() -> tuple[type[Exception], ...]:
    """Return the errors that a damaged or unreadable file raises."""
    zstd: Any = sys.modules.get("compression.zstd")
    known = (OSError, EOFError, zlib.error, lzma.LZMAError)
    return known if zstd is None else (*known, zstd.ZstdError)


def _other_encoding(path: Path, encoding: str, place: int) -> UserError:
    name = encoding.removesuffix("-sig").upper()
    where = f"byte {place}" if name == "UTF-8" else "as its first bytes announce"
    return UserError(
        f"{path} is not {name} text ({where}); convert it to UTF-8, or name a text file"
    )


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file in binary mode, decompressed according to its ending."""
    opened = _OPENERS.get(path.suffix.lower(), _open_plain)
    with opened(path) as file, io.BufferedReader(file) as buffered:
        yield buffered


def _open_plain(path: Path) -> Any:
    return path.open("rb", buffering=0)


def _open_zstandard(path: Path) -> Any:
    what = f"{path} is compressed by zstd, which this Python cannot read"
    with explained(what, "unpack it, or compress it by gzip or xz", (ImportError,)):
        # Part of Python from 3.14 on.
        zstd = import_module("compression.zstd")
    return zstd.open(path)


_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _open_zstandard,
}


def read_pieces(path: Path) -> Iterator[str]:
    """Yield a text file in pieces of at most ``PIECE`` characters, with line ends unchanged.

    Raises:
        UserError: As ``open_text``, or if it is a binary file.
    """
    with open_text(path) as file:
        while piece := file.read(PIECE):
            check_text(path, piece)
            yield piece


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file without their ends.

    Raises:
        UserError: As ``read_pieces``.
    """
    with open_text(path, newline=None) as file:
        for line in file:
            check_text(path, line)
            yield line.removesuffix("\n")


def check_text(path: Path, text: str) -> None:
    """Raise a UserError if a file contains a null character."""
    if "\0" in text:
        raise UserError(
            f"{path} is a binary file; name a text, JSON-lines, CSV, parquet or FASTA file"
        )


def check_ordinary(path: str | os.PathLike[str]) -> None:
    """Raise a UserError for a path that exists but is neither an ordinary file nor a folder."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise UserError(
            f"{path} is a pipe, a socket or a device, not an ordinary file; save its contents in "
            "a file, and name that"
        )

"""The mark by which a picture is known as one of ours, which alone may be replaced by another."""

from __future__ import annotations

from pathlib import Path

from unmask.errors import UserError

GIF_COMMENT = b"drawn by unmask"
PNG_METADATA = {"Software": "unmask"}
HTML_GENERATOR = '<meta name="generator" content="unmask">'
_MARKS = {
    ".gif": GIF_COMMENT,
    ".html": HTML_GENERATOR.encode(),
    ".htm": HTML_GENERATOR.encode(),
    ".png": b"Software\0unmask",
}
_BEGINNING = 65536
"""Bytes of a file in which its mark stands."""


def check_replaceable(path: Path) -> None:
    """Raise a UserError if a picture or page is there that this package did not write.

    Args:
        path: Where one is to be written, with the ending of its kind.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); choose another name") from error
    if beginning and _MARKS[path.suffix.lower()] not in beginning:
        raise UserError(
            f"{path} is there and was not written by this version of unmask, so it is not "
            "overwritten; choose another name"
        )

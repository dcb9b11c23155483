"""Marks in the pictures and pages that this package writes; only files with one are replaced."""

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
"""Bytes at the start of a file that contain its mark."""


def check_replaceable(path: Path) -> None:
    """Raise a UserError if the file exists and this package did not write it.

    Args:
        path: A picture or page; the extension tells the format.
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
            f"{path} exists and was not written by this version of unmask, so it is not "
            "overwritten; choose another name"
        )

"""Writing a file whole or not at all: a failure leaves what was there before."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unmask.errors import UserError


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise a UserError unless ``path`` can be a file in a folder that exists and is writable."""
    target = _ordinary(path)
    try:
        target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another name") from error
    folder = target.parent
    if not os.path.lexists(folder):
        # Most likely a slip: a folder made in its place would hide the file.
        raise UserError(f"cannot write {path}: there is no folder {folder}; make it first")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        kind = "not writable" if folder.is_dir() else "not a folder"
        raise UserError(f"cannot write {path}, as {folder} is {kind}; choose another place")


def _ordinary(path: str | os.PathLike[str]) -> Path:
    target = Path(os.path.realpath(path))
    if os.path.exists(target) and not os.path.isfile(target):
        kind = "a folder" if os.path.isdir(target) else "not an ordinary file"
        raise UserError(f"cannot write to {path}, which is {kind}; choose a file name")
    return target


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path to write to, beside the target, which it replaces if the block succeeds.

    A missing parent folder is made. If the block raises, what it wrote is removed.

    Args:
        path: The target; a link is followed.

    Raises:
        UserError: If the operating system refuses, or the target is not an ordinary file.
    """
    try:
        target = _ordinary(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # A name of our own, not tempfile's, so that the file gets the permissions of the user.
        part = target.parent / f".unmask-{secrets.token_hex(8)}.part"
        try:
            yield part
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot write {path} ({reason}); choose another place") from error

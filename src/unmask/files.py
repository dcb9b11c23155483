"""Replacing the files of a folder so that it is at any moment wholly old or wholly new.

    .unmask-part   what is being written
    .unmask-old    the files that it replaces, put aside, ``config.json`` first
    .unmask-new    ``.unmask-part``, renamed: from here on the save counts; its files are moved
                   out one by one, ``config.json`` last

A killed process leaves either no ``.unmask-new``, and what was put aside is put back, or one, and
the rest of it is moved out: ``settle`` does so when the folder is next opened. ``config.json`` is
missing in between, so that no other library opens a mixture.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from unmask.errors import UserError

FIRST = "config.json"
"""Without this file a folder is no model: put aside first, moved in last."""
PART, OLD, NEW, LOCK = ".unmask-part", ".unmask-old", ".unmask-new", ".unmask-lock"
OWN = (PART, OLD, NEW, LOCK)
"""What a save leaves in a folder while it lasts, or when it is killed."""
PATIENCE = 30.0
"""Seconds that one waits for another process to move its files into place."""


def write_failure(error: BaseException) -> str | None:
    """Return what the operating system said when a file could not be written, None for a bug."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    # safetensors, tokenizers and torch write on their own and raise their own kinds of errors.
    signs = ("os error", "PytorchStreamWriter", "inline_container", "unexpected pos")
    return str(error).splitlines()[0] if any(sign in str(error) for sign in signs) else None


def write_text(path: Path, text: str) -> None:
    """Write a text to a file, whole or not at all.

    Raises:
        UserError: If the disk is full or not writable.
    """
    part = path.parent / f".{path.name}.part"
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise UserError(f"cannot write to {path}: {write_failure(error)}") from error


@contextmanager
def locked(directory: Path, wait: float = 0.0) -> Iterator[None]:
    """Keep other processes from writing a model to a folder, which is made if it is missing.

    The lock ends with the process. A thread that holds it can take it again.

    Args:
        directory: The folder; removed again if it was made here and stays empty.
        wait: Seconds to wait for another process.

    Raises:
        UserError: If another process holds the lock, or the folder cannot be written to.
    """
    # By one name, so that the thread that holds it finds its lock.
    directory = directory.absolute()
    made = [] if directory.is_dir() else [directory]
    try:
        while made and not made[-1].parent.exists():
            made.append(made[-1].parent)
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / LOCK, is_singleton=True)
        lock.acquire(timeout=wait)
    except Timeout as error:
        raise UserError(
            f"another process is writing to {directory}; wait until it is done, or choose another "
            "folder"
        ) from error
    except OSError as error:
        reason = write_failure(error)
        raise UserError(f"cannot write to {directory} ({reason}); choose another folder") from error
    try:
        yield
    finally:
        if lock.lock_counter == 1:
            # While it is held: who waits for it sees that the file is gone, and makes a new one.
            with suppress(OSError):
                os.unlink(directory / LOCK)
        lock.release()
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def staged(directory: Path, stale: Sequence[str] = ()) -> Iterator[Path]:
    """Yield an empty folder; on success what is in it replaces what ``directory`` has of that name.

    Args:
        directory: The folder; what the new files have no name for stays.
        stale: Patterns of names that are removed from it where the new files have no such name.

    Raises:
        UserError: If the disk is full or not writable, or another process writes there.
    """
    directory = directory.absolute()
    with locked(directory, PATIENCE):
        settle(directory)
        part = directory / PART
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            yield part
            _open_up(part)
            _switch(directory, stale)
        except Exception as error:
            reason = write_failure(error)
            if reason is None:
                raise
            state = "what was there is untouched"
            if (directory / OLD).exists() or (directory / NEW).exists():
                state = "the next time it is opened it is put in order"
            raise UserError(f"could not save to {directory}: {reason}; {state}") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)


def settle(directory: Path) -> None:
    """Finish, or take back, a save that was killed while it moved its files into place.

    Raises:
        UserError: If the folder cannot be written to, or another process is at it for long.
    """
    left = [name for name in OWN if os.path.lexists(directory / name)]
    if not left:
        return
    halfway = OLD in left or NEW in left
    try:
        with locked(directory, PATIENCE if halfway else 0.0):
            shutil.rmtree(directory / PART, ignore_errors=True)
            if (directory / NEW).exists():
                _finish(directory)
            elif (directory / OLD).exists():
                _put_back(directory)
    except (OSError, UserError) as error:
        if not halfway:
            # Somebody else is writing there, and what is there is whole.
            return
        raise UserError(
            f"a save to {directory} was cut short, and it cannot be put in order now "
            f"({write_failure(error) or error}); open it again once it can be written to"
        ) from error


def _switch(directory: Path, stale: Sequence[str]) -> None:
    """Put ``.unmask-part`` in the place of the files of its names; take all back on a failure."""
    part, old, new = directory / PART, directory / OLD, directory / NEW
    names = _names(part)
    leaving = {*names, *(path.name for pattern in stale for path in directory.glob(pattern))}
    old.mkdir()
    try:
        for name in sorted(leaving, key=lambda name: (name != FIRST, name)):
            if os.path.lexists(directory / name):
                os.replace(directory / name, old / name)
        os.replace(part, new)
        _move_in(directory)
    except BaseException:
        if new.exists():
            for name in set(names) - set(_names(new)):
                os.replace(directory / name, new / name)
            os.replace(new, part)
        _put_back(directory)
        raise
    _finish(directory)


def _move_in(directory: Path) -> None:
    new = directory / NEW
    for name in sorted(_names(new), key=lambda name: (name == FIRST, name)):
        os.replace(new / name, directory / name)


def _finish(directory: Path) -> None:
    _move_in(directory)
    # In this order: without the folder of the new files the old ones would be put back.
    shutil.rmtree(directory / OLD, ignore_errors=True)
    if not (directory / OLD).exists():
        (directory / NEW).rmdir()


def _put_back(directory: Path) -> None:
    old = directory / OLD
    for name in sorted(_names(old), key=lambda name: (name == FIRST, name)):
        os.replace(old / name, directory / name)
    old.rmdir()


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _open_up(folder: Path) -> None:
    """Give files the permissions of the user's umask: weights are written for their owner only."""
    probe = folder / ".mode"
    probe.touch()
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)

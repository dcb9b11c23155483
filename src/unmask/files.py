"""Atomic writes: a file or folder is at any moment wholly the old one or wholly the new one.

``replacing`` and ``write_text`` replace one file, ``replacing_folder`` a whole folder. ``staged``
replaces some files of a model folder, in steps that survive a killed process:

    .unmask-part   the files being written
    .unmask-old    the files that they replace, ``config.json`` moved first
    .unmask-new    ``.unmask-part``, renamed: from here on the save counts; its files are moved
                   out one by one, ``config.json`` last

Without ``.unmask-new``, ``settle`` moves the old files back; with it, ``settle`` moves out the rest
of the new ones. It does so when the folder is next opened. ``config.json`` is missing in between,
so that no other library opens a mixture.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from unmask.errors import UserError, explained

FIRST = "config.json"
"""Without this file a folder is not a model: moved away first, moved in last."""
PART, OLD, NEW, LOCK = ".unmask-part", ".unmask-old", ".unmask-new", ".unmask-lock"
OWN = (PART, OLD, NEW, LOCK)
"""Names that a save uses in a folder while it runs, and that a killed save leaves there."""
PARTIAL = ".partial"
"""Folder, next to a target folder, in which its replacement is written."""
PATIENCE = 30.0
"""Seconds to wait for another process that moves its files into place."""


def write_failure(error: BaseException) -> str | None:
    """Return the operating system's reason why a file could not be written, None for a bug."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    # safetensors, tokenizers and torch raise their own exceptions for a failed write.
    signs = ("os error", "PytorchStreamWriter", "inline_container", "unexpected pos")
    return str(error).splitlines()[0] if any(sign in str(error) for sign in signs) else None


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise a UserError unless ``path`` can be a file in a folder that exists and is writable."""
    target = _resolved(path)
    with (
        explained(f"cannot write {path}", "choose another name", (OSError,)),
        suppress(FileNotFoundError, NotADirectoryError),
    ):
        target.lstat()
    folder = target.parent
    if not os.path.lexists(folder):
        # Most likely a typing error: a folder made there would bury the file.
        raise UserError(f"cannot write {path}: there is no folder {folder}; make it first")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        kind = "not writable" if folder.is_dir() else "not a folder"
        raise UserError(f"cannot write {path}, as {folder} is {kind}; choose another place")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path to write to, next to the target, which it replaces if the block succeeds.

    A missing parent folder is made. If the block raises, the partial file is removed.

    Args:
        path: The target; a link is followed.

    Raises:
        UserError: If the operating system refuses, or the target is not an ordinary file.
    """
    with explained(f"cannot write {path}", "choose another place", (OSError,)):
        target = _resolved(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _renamed_to(target) as part:
            yield part


def write_text(path: Path, text: str) -> None:
    """Write a text to a file of a model or a training run, which replaces a link, too.

    A link there may lead into the cache of Hugging Face, whose files must not change.

    Raises:
        UserError: If the disk is full or not writable.
    """
    with explained(f"cannot write to {path}", kinds=(OSError,)), _renamed_to(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def _renamed_to(target: Path) -> Iterator[Path]:
    # Not tempfile's name: its files are readable by their owner only.
    part = target.parent / f".unmask-{secrets.token_hex(8)}.part"
    try:
        yield part
        os.replace(part, target)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _resolved(path: str | os.PathLike[str]) -> Path:
    """Return the target of a path without links, if it is an ordinary file or not there yet."""
    target = Path(os.path.realpath(path))
    if os.path.exists(target) and not os.path.isfile(target):
        kind = "a folder" if os.path.isdir(target) else "not an ordinary file"
        raise UserError(f"cannot write to {path}, which is {kind}; choose a file name")
    return target


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Yield the path of a folder to make, which replaces ``target`` if the block succeeds.

    It has the name of the target and lies in ``.partial`` next to it.
    """
    stage = target.parent / PARTIAL
    shutil.rmtree(stage, ignore_errors=True)
    try:
        yield stage / target.name
        shutil.rmtree(target, ignore_errors=True)
        os.replace(stage / target.name, target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def locked(directory: Path, wait: float = 0.0) -> Iterator[None]:
    """Lock a folder against other processes that write models; a missing folder is made.

    The lock ends with the process and is reentrant within a thread.

    Args:
        directory: The folder; removed at the end if it was made here and is still empty.
        wait: Seconds to wait for another process.

    Raises:
        UserError: If another process holds the lock, or the folder cannot be written to.
    """
    # FileLock tells locks apart by path, so a reentrant one needs the same path.
    directory = directory.absolute()
    made = [] if directory.is_dir() else [directory]
    with (
        explained(f"cannot write to {directory}", "choose another folder", (OSError,)),
        explained(
            f"another process is writing to {directory}",
            "wait until it is done, or choose another folder",
            (Timeout,),
            reason=lambda _: "it is locked",
        ),
    ):
        while made and not made[-1].parent.exists():
            made.append(made[-1].parent)
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / LOCK, is_singleton=True)
        lock.acquire(timeout=wait)
    try:
        yield
    finally:
        if lock.lock_counter == 1:
            # Before the release: a waiting process sees that the file is gone and makes a new one.
            with suppress(OSError):
                os.unlink(directory / LOCK)
        lock.release()
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def staged(directory: Path, stale: Sequence[str] = ()) -> Iterator[Path]:
    """Yield an empty folder; on success its files replace those of their names in ``directory``.

    Args:
        directory: The folder; its other files stay.
        stale: Patterns of file names to remove where there is no new file of that name.

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
    """Finish or undo a save that was killed while it moved its files into place.

    Raises:
        UserError: If the folder cannot be written to, or another process keeps it locked.
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
            # Another process is writing to .unmask-part; the model itself is complete.
            return
        raise UserError(
            f"a save to {directory} was cut short, and it cannot be put in order now "
            f"({write_failure(error) or error}); open it again once it can be written to"
        ) from error


def _switch(directory: Path, stale: Sequence[str]) -> None:
    """Replace files by those of ``.unmask-part``; undo everything on a failure."""
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
    # The old files go first: without .unmask-new, ``settle`` would move them back.
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
    """Give files the permissions of the umask; safetensors writes them for their owner only."""
    probe = folder / ".mode"
    probe.touch()
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)

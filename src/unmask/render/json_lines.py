"""What all recordings share: a header, then a JSON object per line, each with its track.

{"format": 1, "tracks": ["confidence", "random"]}         of texts, see ``jsonl``
{"format": 1, "pictures": [{"label": "confidence", ...}]}  of pictures, see ``picture_jsonl``
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from unmask.errors import UserError
from unmask.files import replacing

FORMAT = 1
TEXTS, PICTURES = "tracks", "pictures"
"""Key in the header that has an entry per track."""
SHAPE = ("height", "width", "channels")
"""Keys of the entry of a picture, beside its label."""
_HEADER = 1_000_000

State = TypeVar("State")


def write_recording(
    path: str | os.PathLike[str],
    key: str,
    entries: list[Any],
    states: Iterable[tuple[int, dict[str, Any]]],
) -> None:
    """Write a recording to one file, whole or not at all.

    Args:
        path: The file.
        key: The kind, ``TEXTS`` or ``PICTURES``.
        entries: What the header says of each track.
        states: Each state as the number of its track and what it holds.

    Raises:
        UserError: If the file cannot be written.
    """
    with replacing(path) as part, part.open("w", encoding="ascii") as file:
        file.write(json.dumps({"format": FORMAT, key: entries}) + "\n")
        for index, state in states:
            file.write(json.dumps({"track": index, **state}, allow_nan=False) + "\n")


def read_recording(
    path: str | os.PathLike[str], key: str, read: Callable[[Any, dict[str, Any]], State]
) -> list[tuple[Any, tuple[State, ...]]]:
    """Return the entry of each track with its states.

    Args:
        path: The file.
        key: The kind, ``TEXTS`` or ``PICTURES``.
        read: Makes a state of the entry of its track and the record on its line. A KeyError,
            ValueError or OverflowError is the reason why the line is refused.

    Raises:
        UserError: If there is no such file, or it is not a recording; names the line.
    """
    lines = _read_lines(Path(path))
    entries = _read_header(path, lines[0], (key,))
    states: list[list[State]] = [[] for _ in entries]
    for number, line in enumerate(lines[1:], start=2):
        record = _parse(path, number, line)
        try:
            track = typed(record["track"], int)
            if not 0 <= track < len(entries):
                raise ValueError(f"there is no track {track}")
            states[track].append(read(entries[track], record))
        except KeyError as error:
            raise _bad(path, number, f"the key {error} is missing") from error
        except (ValueError, OverflowError) as error:
            raise _bad(path, number, str(error)) from error
    return [(entry, tuple(s)) for entry, s in zip(entries, states, strict=True)]


def check_replaceable(path: Path) -> None:
    """Raise a UserError if the file exists and is not a recording: it may be the user's data."""
    try:
        if path.exists() and path.stat().st_size:
            _read_header(path, _first_line(path), (TEXTS, PICTURES))
    except (OSError, UserError) as error:
        raise UserError(
            f"{path} exists and is not a recording of this version of unmask, so it is not "
            "overwritten; choose another name"
        ) from error


def holds_pictures(path: Path) -> bool:
    """Return whether a file is a recording of pictures; what it is else, its reader finds out."""
    try:
        header = json.loads(_first_line(path)) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(header, dict) and PICTURES in header


def number(value: Any) -> float:
    """Return a finite number, or raise a ValueError."""
    found = float(typed(value, (int, float)))
    if not math.isfinite(found):
        raise ValueError(f"{value} is not a finite number")
    return found


def typed(value: Any, kind: Any) -> Any:
    """Return a value of a type, or raise a ValueError."""
    # ``bool`` is a subclass of ``int``.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{json.dumps(value)[:40]} has the wrong type")
    return value


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline(_HEADER).decode("utf-8", "replace")


def _read_lines(path: Path) -> list[str]:
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe, a socket or a device"
        raise UserError(f"{path} is {kind}; pass a file that unmask wrote with --frames")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"there is no recording {path}; check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, UnicodeDecodeError):
            reason = "it is not UTF-8 text"
        raise UserError(
            f"cannot read {path} ({reason}); pass a file that unmask wrote with --frames"
        ) from error
    lines = text.split("\n")
    return lines[:-1] if len(lines) > 1 and not lines[-1] else lines


def _read_header(path: str | os.PathLike[str], line: str, keys: tuple[str, ...]) -> list[Any]:
    """Return the entries under the first of the keys that the header has."""
    header = _parse(path, 1, line)
    version = header.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise UserError(
            f"{path} has format {version}, newer than this version of unmask reads ({FORMAT}); "
            "upgrade unmask"
        )
    key = next((key for key in keys if key in header), keys[0])
    entries = header.get(key)
    if version != FORMAT or not isinstance(entries, list):
        raise _bad(path, 1, f'it does not begin with {{"format": {FORMAT}, "{key}": [...]}}')
    if key == TEXTS and not all(isinstance(entry, str) for entry in entries):
        raise _bad(path, 1, "a label is not a string")
    if key == PICTURES and not all(map(_is_picture, entries)):
        raise _bad(path, 1, f"a picture has no label, {', '.join(SHAPE)}")
    return entries


def _is_picture(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("label"), str):
        return False
    return all(type(entry.get(key)) is int and entry[key] > 0 for key in SHAPE)


def _parse(path: str | os.PathLike[str], line_number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _bad(path, line_number, "the line is not JSON") from error
    if not isinstance(record, dict):
        raise _bad(path, line_number, "the line is not a JSON object")
    return record


def _bad(path: str | os.PathLike[str], line_number: int, reason: str) -> UserError:
    return UserError(
        f"{path} is not a recording that can be read: in line {line_number}, {reason}; record it "
        "again"
    )

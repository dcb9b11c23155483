"""Recordings as JSON lines, which can be replayed without a model.

{"format": 1, "tracks": ["confidence", "random"]}
{"track": 0, "step": 0, "seconds": 0.0, "nfe": 0, "pieces": [...], "status": [...],
 "confidence": [...]}                                                      (on one line)
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from unmask.errors import UserError
from unmask.files import replacing
from unmask.pipelines.trace import Snapshot, Status, Track

FORMAT = 1
_HEADER = 1_000_000
_STATES = frozenset(get_args(Status))


def write_tracks(path: str | os.PathLike[str], tracks: Sequence[Track]) -> None:
    """Write recordings to one file, whole or not at all.

    Raises:
        UserError: If the file cannot be written.
    """
    with replacing(path) as part, part.open("w", encoding="ascii") as file:
        header = {"format": FORMAT, "tracks": [track.label for track in tracks]}
        file.write(json.dumps(header) + "\n")
        for index, track in enumerate(tracks):
            for snapshot in track.snapshots:
                file.write(json.dumps({"track": index, **vars(snapshot)}, allow_nan=False) + "\n")


def check_replaceable(path: Path) -> None:
    """Raise a UserError if the file exists and is not a recording: it may be the user's data."""
    try:
        if path.exists() and path.stat().st_size:
            with path.open("rb") as file:
                _read_header(path, file.readline(_HEADER).decode("utf-8", "replace"))
    except (OSError, UserError) as error:
        raise UserError(
            f"{path} exists and is not a recording of this version of unmask, so it is not "
            "overwritten; choose another name"
        ) from error


def read_tracks(path: str | os.PathLike[str]) -> list[Track]:
    """Read a recording by ``write_tracks``.

    Raises:
        UserError: If there is no such file, or it is not a recording; names the line.
    """
    lines = _read_lines(Path(path))
    labels = _read_header(path, lines[0])
    snapshots: list[list[Snapshot]] = [[] for _ in labels]
    for number, line in enumerate(lines[1:], start=2):
        record = _parse(path, number, line)
        try:
            track = _check(record["track"], int)
            if not 0 <= track < len(labels):
                raise ValueError(f"there is no track {track}")
            snapshots[track].append(_snapshot(record))
        except KeyError as error:
            raise _bad(path, number, f"the key {error} is missing") from error
        except (ValueError, OverflowError) as error:
            raise _bad(path, number, str(error)) from error
    return [Track(label, tuple(s)) for label, s in zip(labels, snapshots, strict=True)]


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


def _read_header(path: str | os.PathLike[str], line: str) -> list[str]:
    header = _parse(path, 1, line)
    version = header.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise UserError(
            f"{path} has format {version}, newer than this version of unmask reads ({FORMAT}); "
            "upgrade unmask"
        )
    labels = header.get("tracks")
    if version != FORMAT or not isinstance(labels, list):
        raise _bad(path, 1, 'it does not begin with {"format": 1, "tracks": [...]}')
    if not all(isinstance(label, str) for label in labels):
        raise _bad(path, 1, "a label is not a string")
    return labels


def _parse(path: str | os.PathLike[str], number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _bad(path, number, "the line is not JSON") from error
    if not isinstance(record, dict):
        raise _bad(path, number, "the line is not a JSON object")
    return record


def _snapshot(record: dict[str, Any]) -> Snapshot:
    columns = [_check(record[key], list) for key in ("pieces", "status", "confidence")]
    pieces, status, confidence = columns
    if not len(pieces) == len(status) == len(confidence):
        raise ValueError("pieces, status and confidence differ in length")
    if not all(state in _STATES for state in status if isinstance(state, str)):
        raise ValueError(f"a status is none of {', '.join(sorted(_STATES))}")
    return Snapshot(
        step=_check(record["step"], int),
        seconds=_number(record["seconds"]),
        nfe=_check(record["nfe"], int),
        pieces=tuple(_check(piece, str) for piece in pieces),
        status=tuple(_check(state, str) for state in status),
        confidence=tuple(None if value is None else _number(value) for value in confidence),
    )


def _number(value: Any) -> float:
    number = float(_check(value, (int, float)))
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a finite number")
    return number


def _check(value: Any, kind: Any) -> Any:
    # ``bool`` is a subclass of ``int``.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{json.dumps(value)[:40]} has the wrong type")
    return value


def _bad(path: str | os.PathLike[str], number: int, reason: str) -> UserError:
    return UserError(
        f"{path} is not a recording that can be read: in line {number}, {reason}; record it again"
    )

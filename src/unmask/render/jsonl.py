"""Recordings of texts as JSON lines, which can be replayed without a model.

{"format": 1, "tracks": ["confidence", "random"]}
{"track": 0, "step": 0, "seconds": 0.0, "nfe": 0, "pieces": [...], "status": [...],
 "confidence": [...]}                                                      (on one line)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, get_args

from unmask.pipelines.trace import Snapshot, Status, Track
from unmask.render.json_lines import TEXTS, number, read_recording, typed, write_recording

_STATES = frozenset(get_args(Status))


def write_tracks(path: str | os.PathLike[str], tracks: Sequence[Track]) -> None:
    """Write recordings to one file, whole or not at all.

    Raises:
        UserError: If the file cannot be written.
    """
    states = ((i, vars(state)) for i, track in enumerate(tracks) for state in track.snapshots)
    write_recording(path, TEXTS, [track.label for track in tracks], states)


def read_tracks(path: str | os.PathLike[str]) -> list[Track]:
    """Read a recording by ``write_tracks``.

    Raises:
        UserError: If there is no such file, or it is not a recording; names the line.
    """
    recorded = read_recording(path, TEXTS, lambda _, record: _snapshot(record))
    return [Track(label, snapshots) for label, snapshots in recorded]


def _snapshot(record: dict[str, Any]) -> Snapshot:
    columns = [typed(record[key], list) for key in ("pieces", "status", "confidence")]
    pieces, status, confidence = columns
    if not len(pieces) == len(status) == len(confidence):
        raise ValueError("pieces, status and confidence differ in length")
    if not all(state in _STATES for state in status if isinstance(state, str)):
        raise ValueError(f"a status is none of {', '.join(sorted(_STATES))}")
    return Snapshot(
        step=typed(record["step"], int),
        seconds=number(record["seconds"]),
        nfe=typed(record["nfe"], int),
        pieces=tuple(typed(piece, str) for piece in pieces),
        status=tuple(typed(state, str) for state in status),
        confidence=tuple(None if value is None else number(value) for value in confidence),
    )

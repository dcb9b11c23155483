"""Recordings of pictures as JSON lines, which can be replayed without a model.

{"format": 1, "pictures": [{"label": "confidence", "height": 28, "width": 28, "channels": 1}]}
{"track": 0, "step": 0, "seconds": 0.0, "nfe": 0, "pixels": "...", "undecided": "...",
 "given": "..."}                                                           (on one line)

Arrays are base64: of "pixels" the bytes in the order row, column, channel; of the others the bits
in this order, eight to a byte, the first one highest (``numpy.packbits``).
"""

from __future__ import annotations

import math
import os
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmask.errors import UserError
from unmask.pipelines.picture_trace import PictureFrame, PictureTrack
from unmask.render.json_lines import (
    PICTURES,
    SHAPE,
    number,
    read_recording,
    typed,
    write_recording,
)


def save_frames(tracks: Sequence[PictureTrack], path: str | os.PathLike[str]) -> None:
    """Write recordings to one file, whole or not at all.

    Raises:
        UserError: If a track has no frame, or the file cannot be written.
    """
    if not tracks or not all(track.frames for track in tracks):
        raise UserError("the recording is empty; record a generation with at least one step")
    entries = [
        {"label": track.label, **dict(zip(SHAPE, track.frames[0].pixels.shape, strict=True))}
        for track in tracks
    ]
    states = ((i, _record(frame)) for i, track in enumerate(tracks) for frame in track.frames)
    write_recording(path, PICTURES, entries, states)


def load_frames(path: str | os.PathLike[str]) -> list[PictureTrack]:
    """Read a recording by ``save_frames``.

    Raises:
        UserError: If there is no such file, or it is not a recording of pictures; names the line.
    """
    recorded = read_recording(path, PICTURES, _frame)
    return [PictureTrack(entry["label"], frames) for entry, frames in recorded]


def _record(frame: PictureFrame) -> dict[str, Any]:
    return {
        "step": int(frame.step),
        "seconds": float(frame.seconds),
        "nfe": int(frame.nfe),
        "pixels": b64encode(frame.pixels.tobytes()).decode("ascii"),
        "undecided": b64encode(np.packbits(frame.undecided).tobytes()).decode("ascii"),
        "given": b64encode(np.packbits(frame.given).tobytes()).decode("ascii"),
    }


def _frame(entry: dict[str, Any], record: dict[str, Any]) -> PictureFrame:
    shape = tuple(entry[key] for key in SHAPE)
    size = math.prod(shape)
    bits = (size + 7) // 8
    flags = [
        np.unpackbits(_bytes(record, key, bits), count=size).astype(bool).reshape(shape)
        for key in ("undecided", "given")
    ]
    return PictureFrame(
        typed(record["step"], int),
        number(record["seconds"]),
        typed(record["nfe"], int),
        _bytes(record, "pixels", size).reshape(shape),
        *flags,
    )


def _bytes(record: dict[str, Any], key: str, size: int) -> NDArray[np.uint8]:
    try:
        content = b64decode(typed(record[key], str), validate=True)
    except Error as error:
        raise ValueError(f"{key} is not base64") from error
    if len(content) != size:
        raise ValueError(f"{key} has {len(content)} bytes, not {size}")
    return np.frombuffer(content, dtype=np.uint8)

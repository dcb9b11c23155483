"""A recording of pictures as one web page that replays it; needs no network and no server."""

from __future__ import annotations

import os
import zlib
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import numpy as np

from unmask.pipelines.picture_trace import PictureTrack
from unmask.render import style
from unmask.render.html import instants, write_page
from unmask.render.pictures import MIDDLE
from unmask.render.timeline import timeline


def save_html(tracks: Sequence[PictureTrack], path: str | os.PathLike[str], title: str) -> None:
    """Write a page with play, pause, a slider over the steps, and each pixel's values.

    The page has every frame of the recording, exactly.

    Args:
        tracks: The recordings on one clock; those of one label are one grid.
        path: The file; replaced whole or not at all.
        title: The heading of the page.

    Raises:
        UserError: If there is nothing to show, or the file cannot be written.
    """
    data = {
        "moments": instants(timeline(tracks)),
        "tracks": [_track(track) for track in tracks],
        "ground": style.UNDECIDED,
        "middle": MIDDLE,
    }
    write_page(path, "picture", title, _legend(), data)


def _legend() -> str:
    one, two = map(style.hexadecimal, style.UNDECIDED)
    return (
        '<ul class="legend" aria-label="Legend">\n'
        f'  <li><span class="swatch" style="--one: {one}; --two: {two}"></span>undecided</li>\n'
        "  <li>point at a pixel for its values</li>\n"
        "</ul>"
    )


def _track(track: PictureTrack) -> dict[str, Any]:
    """Return a track with its frames as compressed differences."""
    height, width, channels = track.frames[0].pixels.shape
    return {
        "label": track.label,
        "height": height,
        "width": width,
        "channels": channels,
        "given": _base64(np.packbits(track.frames[-1].given).tobytes()),
        "frames": [
            {"step": f.step, "nfe": f.nfe, "seconds": f.seconds, "done": round(f.done, 4)}
            for f in track.frames
        ],
        "packed": _base64(zlib.compress(_differences(track), 9)),
    }


def _differences(track: PictureTrack) -> bytes:
    """Return values and packed "undecided" of each frame, xor those of the frame before.

    The values of undecided sub-pixels are 0, so that only what is decided differs.
    """
    undecided = np.stack([frame.undecided.ravel() for frame in track.frames])
    pixels = np.stack([frame.pixels.ravel() for frame in track.frames])
    rows = [np.where(undecided, 0, pixels).astype(np.uint8), np.packbits(undecided, axis=1)]
    bytes_ = np.concatenate(rows, axis=1)
    bytes_[1:] ^= bytes_[:-1].copy()
    return bytes_.tobytes()


def _base64(content: bytes) -> str:
    return b64encode(content).decode("ascii")

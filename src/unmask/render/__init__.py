"""What is drawn of a recording, of texts or pictures (terminal, GIF, web page), image files, plots.

Loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.render.gif import write_gif
    from unmask.render.html import write_html
    from unmask.render.jsonl import read_tracks, write_tracks
    from unmask.render.picture_gif import save_gif
    from unmask.render.picture_html import save_html
    from unmask.render.picture_jsonl import load_frames, save_frames
    from unmask.render.picture_terminal import LivePicture, play_pictures
    from unmask.render.pictures import save_grid, save_png, shown, upscaled
    from unmask.render.plots import Point, exponents, loss_curve, sampler_curves
    from unmask.render.terminal import LiveCanvas, play

__all__ = [
    "LiveCanvas",
    "LivePicture",
    "Point",
    "exponents",
    "load_frames",
    "loss_curve",
    "play",
    "play_pictures",
    "read_tracks",
    "sampler_curves",
    "save_frames",
    "save_gif",
    "save_grid",
    "save_html",
    "save_png",
    "shown",
    "upscaled",
    "write_gif",
    "write_html",
    "write_tracks",
]

__getattr__, __dir__ = lazy(__name__)

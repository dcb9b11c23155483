"""Pictures of a recording (terminal, GIF, web page) and plots; loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.render.gif import write_gif
    from unmask.render.html import write_html
    from unmask.render.jsonl import read_tracks, write_tracks
    from unmask.render.plots import Point, exponents, loss_curve, sampler_curves
    from unmask.render.terminal import LiveCanvas, play

__all__ = [
    "LiveCanvas",
    "Point",
    "exponents",
    "loss_curve",
    "play",
    "read_tracks",
    "sampler_curves",
    "write_gif",
    "write_html",
    "write_tracks",
]

__getattr__, __dir__ = lazy(__name__)

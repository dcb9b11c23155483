"""Pictures of a recording (terminal, GIF, web page) and plots; loaded on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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

_HOMES = {
    "LiveCanvas": "terminal",
    "Point": "plots",
    "exponents": "plots",
    "loss_curve": "plots",
    "play": "terminal",
    "read_tracks": "jsonl",
    "sampler_curves": "plots",
    "write_gif": "gif",
    "write_html": "html",
    "write_tracks": "jsonl",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'unmask.render' has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

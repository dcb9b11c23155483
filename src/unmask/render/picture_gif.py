"""A recording of pictures as an animated GIF: the samples of a run as a grid, runs side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence

from unmask.pipelines.picture_trace import PictureTrack
from unmask.render.gif import LAST_SECONDS, durations, save_animation
from unmask.render.optional import viz_extra
from unmask.render.timeline import Moment, timeline

MOST_FRAMES = 500
"""Longer recordings are thinned out."""


def save_gif(
    tracks: Sequence[PictureTrack],
    path: str | os.PathLike[str],
    title: str | None = None,
    *,
    speed: float = 1.0,
) -> None:
    """Write an animation of every frame, which holds the last one and loops.

    It plays for 4 to 12 seconds (see ``timeline``), or longer if a GIF cannot show its frames so
    fast. Small pictures are enlarged by a whole number. The step, the network calls and the seconds
    so far are below them.

    Args:
        tracks: The recordings; those of one label are one grid.
        path: The file; replaced whole or not at all.
        title: A line on top.
        speed: 2 is twice as fast.

    Raises:
        UserError: If there is nothing to show, Pillow or matplotlib is missing, or the file cannot
            be written.
    """
    moments = _thinned(timeline(tracks, speed))
    with viz_extra("a GIF"):
        from unmask.render.picture_page import PicturePage

        indices = [{moment.shown[i] for moment in moments} for i in range(len(tracks))]
        page = PicturePage(tracks, indices, title)
    times = [*durations(moments), round(1000 * LAST_SECONDS)]
    save_animation(path, (page.draw(moment.shown) for moment in moments), times)


def _thinned(moments: list[Moment]) -> list[Moment]:
    """Return at most about ``MOST_FRAMES`` moments, the first and the last among them."""
    every = -(-(len(moments) - 1) // MOST_FRAMES) or 1
    return [*moments[:-1:every], moments[-1]]

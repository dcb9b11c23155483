"""A recording as an animated GIF: several tracks side by side on one clock."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from unmask.errors import UserError
from unmask.files import replacing
from unmask.pipelines.trace import Snapshot, Track
from unmask.render.marks import GIF_COMMENT
from unmask.render.optional import viz_extra
from unmask.render.timeline import Moment, timeline

if TYPE_CHECKING:
    from PIL.Image import Image

LAST_SECONDS = 3.0
"""How long the finished text or picture is held."""
LONGEST_TEXT = 160
"""Most lines of text: a taller GIF is too large to send and to scroll."""
_FRAME_SECONDS = 0.06
_PAUSE_SECONDS = 0.5  # after the last step, before its highlights go
_TICK = 0.01  # The unit of time in a GIF; players ignore durations below two of it.


def write_gif(
    path: str | os.PathLike[str],
    tracks: Sequence[Track],
    title: str | None = None,
    *,
    columns: int | None = None,
    speed: float = 1.0,
    font: str | os.PathLike[str] | None = None,
) -> None:
    """Write an animation that plays for 4 to 12 seconds (see ``timeline``), holds, and loops.

    Args:
        path: The file; replaced whole or not at all.
        tracks: The recordings, up to three side by side.
        title: A line on top.
        columns: Characters per line of a track; by default 64 for one track, fewer for several.
        speed: 2 is twice as fast.
        font: A monospaced TrueType file, for scripts that DejaVu Sans Mono does not have.

    Raises:
        UserError: If there is nothing to show, the text is too long, Pillow or matplotlib is
            missing, or the file cannot be written.
    """
    moments = timeline(tracks, speed, _FRAME_SECONDS)
    with viz_extra("a GIF"):
        from unmask.render.gif_page import Page

        page = Page(tracks, title, columns, font)
    if page.lines > LONGEST_TEXT:
        raise UserError(
            f"the text has {page.lines} lines, a GIF can have {LONGEST_TEXT}; "
            "write a web page with --html instead"
        )
    shown = [[t.snapshots[i] for t, i in zip(tracks, m.shown, strict=True)] for m in moments]
    shown.append([_without_highlights(track.snapshots[-1]) for track in tracks])
    steps = durations(moments)
    pause = max([*steps[-1:], round(1000 * _PAUSE_SECONDS)])
    save_animation(path, map(page.draw, shown), [*steps, pause, round(1000 * LAST_SECONDS)])


def save_animation(
    path: str | os.PathLike[str], pictures: Iterable[Image], milliseconds: Sequence[int]
) -> None:
    """Write pictures, in palette mode and of one size, as a GIF that loops.

    Args:
        path: The file; replaced whole or not at all.
        pictures: At least one.
        milliseconds: How long each is shown.

    Raises:
        UserError: If the file cannot be written.
    """
    first, *rest = pictures
    with replacing(path) as part:
        first.save(
            part,
            format="GIF",
            save_all=True,
            append_images=rest,
            duration=list(milliseconds),
            loop=0,
            comment=GIF_COMMENT,
            # Unchanged pixels become transparent, which compresses better.
            optimize=True,
            disposal=1,
        )


def durations(moments: Sequence[Moment]) -> list[int]:
    """Return milliseconds from each moment to the next; rounding errors do not add up."""
    ticks = [round(moment.at / _TICK) for moment in moments]
    return [10 * max(after - before, 2) for before, after in pairwise(ticks)]


def _without_highlights(snapshot: Snapshot) -> Snapshot:
    status = tuple("kept" if state == "revealed" else state for state in snapshot.status)
    return replace(snapshot, status=status)

"""A recording as an animated GIF: several tracks side by side on one clock."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
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
    from PIL import Image

    from unmask.render.gif_page import Page

LAST_SECONDS = 3.0
"""How long the finished text is held."""
LONGEST_TEXT = 160
"""Most lines of text: a taller GIF is too large to send and to scroll."""
_FRAME_SECONDS = 0.06
_PAUSE_SECONDS = 0.5  # after the last step, before its marks go
_TICK = 0.01  # GIF counts in hundredths of a second, and players distrust fewer than two.


def write_gif(
    path: str | os.PathLike[str],
    tracks: Sequence[Track],
    title: str | None = None,
    *,
    columns: int | None = None,
    speed: float = 1.0,
    font: str | os.PathLike[str] | None = None,
) -> None:
    """Write an animation that plays for 4 to 12 seconds (see ``clock``), then holds, then loops.

    Args:
        path: The file; replaced whole or not at all.
        tracks: What to show, up to three side by side.
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
    first, *rest = _frames(page, tracks, moments)
    with replacing(path) as part:
        first.save(
            part,
            format="GIF",
            save_all=True,
            append_images=rest,
            duration=_durations(moments),
            loop=0,
            comment=GIF_COMMENT,
            # Makes what did not change transparent, which packs better.
            optimize=True,
            disposal=1,
        )


def _frames(
    page: Page, tracks: Sequence[Track], moments: Sequence[Moment]
) -> Iterator[Image.Image]:
    """Yield a picture of each moment, and one of the end without marks."""
    for moment in moments:
        yield page.draw([t.snapshots[i] for t, i in zip(tracks, moment.shown, strict=True)])
    yield page.draw([_settled(track.snapshots[-1]) for track in tracks])


def _settled(snapshot: Snapshot) -> Snapshot:
    """Return a snapshot in which nothing is new any more."""
    status = tuple("kept" if state == "revealed" else state for state in snapshot.status)
    return replace(snapshot, status=status)


def _durations(moments: Sequence[Moment]) -> list[int]:
    """Return milliseconds per frame; rounding errors do not add up."""
    ticks = [round(moment.at / _TICK) for moment in moments]
    steps = [max(after - before, 2) for before, after in pairwise(ticks)]
    pause = max([*steps[-1:], round(_PAUSE_SECONDS / _TICK)])
    return [10 * tick for tick in [*steps, pause, round(LAST_SECONDS / _TICK)]]

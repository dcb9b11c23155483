"""The times of a replay: several recordings on one clock.

Real times span five orders of magnitude, so a replay is slowed down or sped up as a whole:

    replay seconds = clamp(seconds of the slowest track, SHORTEST, LONGEST) / speed

All tracks share the factor, so relative times are real.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from unmask.errors import UserError
from unmask.pipelines.picture_trace import PictureTrack
from unmask.pipelines.trace import Track

SHORTEST = 4.0
"""Shortest replay in seconds."""
LONGEST = 12.0
"""Longest replay in seconds."""


@dataclass(frozen=True)
class Moment:
    """A point in time at which the picture changes.

    Attributes:
        at: Seconds since the start of the replay.
        shown: Index of the snapshot or frame to show, for each track.
    """

    at: float
    shown: tuple[int, ...]


def timeline(
    tracks: Sequence[Track] | Sequence[PictureTrack],
    speed: float = 1.0,
    frame_seconds: float = 0.0,
) -> list[Moment]:
    """Return the moments of a replay in order, from 0 to the last snapshot of every track.

    Args:
        tracks: The recordings, of texts or of pictures; each needs a snapshot or frame.
        speed: 2 is twice as fast as the rule of this module.
        frame_seconds: Shortest time between two moments, in replay seconds.

    Raises:
        UserError: If there is nothing to show, or the speed is not a positive number.
    """
    recorded = [_seconds(track) for track in tracks]
    if not recorded or not all(recorded):
        raise UserError("the recording is empty; record a generation with at least one step")
    if not 0 < speed < math.inf:
        raise UserError(f"the speed must be a positive number, not {speed}")
    times = _replay_times(recorded, speed)
    moments = [Moment(0.0, (0,) * len(tracks))]
    for at in sorted({time for track in times for time in track}):
        shown = tuple(max(bisect_right(track, at) - 1, 0) for track in times)
        if shown == moments[-1].shown:
            continue
        if len(moments) > 1 and at - moments[-1].at < frame_seconds:
            moments[-1] = Moment(moments[-1].at, shown)
        else:
            moments.append(Moment(at, shown))
    return moments


def _seconds(track: Track | PictureTrack) -> list[float]:
    states = track.frames if isinstance(track, PictureTrack) else track.snapshots
    return [state.seconds for state in states]


def _replay_times(recorded: Sequence[Sequence[float]], speed: float) -> list[list[float]]:
    # The system clock may have been set back; the running maximum keeps the order.
    times = [list(accumulate(seconds, max)) for seconds in recorded]
    if max(track[-1] for track in times) <= 0:
        times = [[float(index) for index in range(len(track))] for track in times]
    total = max(track[-1] for track in times)
    factor = min(max(total, SHORTEST), LONGEST) / total / speed if total > 0 else 1.0
    return [[max(time, 0.0) * factor for time in track] for track in times]

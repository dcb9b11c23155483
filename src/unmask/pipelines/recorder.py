"""From frames to pictures: the rows of a canvas as text, token by token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from unmask.data.codec import Codec
from unmask.pipelines.trace import HIDDEN, Snapshot, Status, Track
from unmask.sampling.canvas import Frame

CELLS = 2**24
"""Tokens that a film shows at most, counting those of every row of every frame."""


@dataclass
class Film:
    """Frames while they are made, thinned out when there are too many to keep.

    The first and the last one are always there, and where nothing was dropped all are.

    Attributes:
        frames: What is kept.
        seconds: When each of them was finished.
    """

    frames: list[Frame] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    _count: int = 0
    _every: int = 1

    def add(self, frame: Frame, seconds: float) -> None:
        """Add the next frame."""
        if self.frames and (self._count - 1) % self._every:
            # The last one stays only as long as it is the last.
            self.frames.pop()
            self.seconds.pop()
        self.frames.append(frame)
        self.seconds.append(seconds)
        self._count += 1
        cells = len(self.frames) * frame.canvas.ids.numel()
        if cells > CELLS and len(self.frames) > 2 and (self._count - 1) % (2 * self._every) == 0:
            self.frames, self.seconds = self.frames[::2], self.seconds[::2]
            self._every *= 2

    def tracks(self, codec: Codec, label: str, rows: Sequence[int]) -> tuple[Track, ...]:
        """Return the recording of each of some rows."""
        return tuple(track(codec, label, self.frames, self.seconds, row) for row in rows)


def snapshot(codec: Codec, frame: Frame, seconds: float, row: int) -> Snapshot:
    """Return one row of a frame as a picture's data, without start symbol and padding."""
    canvas = frame.canvas
    used = slice(len(codec.start), int(canvas.valid[row].sum()))
    ids = canvas.ids[row, used].tolist()
    columns = (frame.revealed, frame.remasked, canvas.masked, canvas.editable)
    # Of blocks that are written one after the other, those to come are set apart.
    turn = len(ids) if frame.block is None else frame.block[1] - used.start
    later = [index >= turn for index in range(len(ids))]
    flags = zip(*(column[row, used].tolist() for column in columns), later, strict=True)
    pieces = codec.pieces(ids)
    status = tuple(_status(*flag) for flag in flags)
    return Snapshot(
        step=frame.step,
        seconds=seconds,
        nfe=frame.nfe,
        pieces=tuple(
            "" if state in HIDDEN else piece for piece, state in zip(pieces, status, strict=True)
        ),
        status=status,
        confidence=tuple(
            None if math.isnan(value) else value for value in frame.confidence[row, used].tolist()
        ),
    )


def track(
    codec: Codec, label: str, frames: Sequence[Frame], seconds: Sequence[float], row: int
) -> Track:
    """Return the recording of one row."""
    pairs = zip(frames, seconds, strict=True)
    return Track(label, tuple(snapshot(codec, frame, second, row) for frame, second in pairs))


def _status(revealed: bool, remasked: bool, masked: bool, editable: bool, waiting: bool) -> Status:
    if not editable:
        return "given"
    if remasked:
        return "remasked"
    if masked:
        return "waiting" if waiting else "masked"
    return "revealed" if revealed else "kept"


def left_to_right(
    codec: Codec, ids: Sequence[int], given: int, total: int, seconds: float
) -> Snapshot:
    """Return the picture of an autoregressive row, of which some tokens are not written yet.

    Args:
        codec: The tokenizer.
        ids: Prompt and what is written so far.
        given: Tokens of the prompt, start symbols included.
        total: Tokens of the finished row.
        seconds: Time so far.
    """
    hidden = len(codec.start)
    written, rest = len(ids) - given, total - len(ids)
    prompt: list[Status] = ["given"] * (given - hidden)
    old: list[Status] = ["kept"] * (written - 1)
    last: list[Status] = ["revealed"] if written else []
    masked: list[Status] = ["masked"] * rest
    return Snapshot(
        step=written,
        seconds=seconds,
        nfe=written,
        pieces=(*codec.pieces(list(ids[hidden:])), *[""] * rest),
        status=(*prompt, *old, *last, *masked),
        confidence=(None,) * (total - hidden),
    )

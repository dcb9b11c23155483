"""From frames to snapshots: the rows of a canvas as text, token by token."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from unmask.data.codec import Codec
from unmask.pipelines.trace import HIDDEN, Snapshot, Status, Track
from unmask.sampling.canvas import Frame

CELLS = 2**24
"""Most tokens in a recording, counting those of every row of every frame."""


@dataclass
class Recording:
    """The frames of a run, thinned out when there are too many to keep.

    The first and the last frame are always kept.

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
            # Drop the previous frame unless it falls on the sampling interval.
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
    """Return one row of a frame as a snapshot, without start symbols and padding."""
    canvas = frame.canvas
    used = slice(len(codec.start), int(canvas.valid[row].sum()))
    ids = canvas.ids[row, used].tolist()
    columns = (frame.revealed, frame.remasked, frame.undecided, canvas.editable)
    # Positions after the current block wait for their turn.
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


@dataclass
class LeftToRightRecorder:
    """The snapshots of the first row while an autoregressive model generates.

    Args:
        codec: The tokenizer.
        given: Tokens of the prompt, start symbols included.
        total: Tokens of the finished row.
        watch: Called with the snapshot after every token; None for nobody.
    """

    codec: Codec
    given: int
    total: int
    watch: Callable[[Snapshot], None] | None = None
    _notes: list[tuple[float, list[int]]] = field(default_factory=list)

    def __call__(self, seconds: float, ids: list[int]) -> None:
        """Take the ids of the row so far, prompt included, and the time."""
        # Snapshots are made afterwards, unless somebody watches: they would slow the model down.
        self._notes.append((seconds, ids))
        if self.watch is not None:
            self.watch(self._snapshot(seconds, ids))

    def track(self) -> Track:
        """Return the recording."""
        return Track("autoregressive", tuple(self._snapshot(*note) for note in self._notes))

    def _snapshot(self, seconds: float, ids: Sequence[int]) -> Snapshot:
        start = len(self.codec.start)
        generated, rest = len(ids) - self.given, self.total - len(ids)
        prompt: list[Status] = ["given"] * (self.given - start)
        old: list[Status] = ["kept"] * (generated - 1)
        last: list[Status] = ["revealed"] if generated else []
        masked: list[Status] = ["masked"] * rest
        return Snapshot(
            step=generated,
            seconds=seconds,
            nfe=generated,
            pieces=(*self.codec.pieces(list(ids[start:])), *[""] * rest),
            status=(*prompt, *old, *last, *masked),
            confidence=(None,) * (self.total - start),
        )

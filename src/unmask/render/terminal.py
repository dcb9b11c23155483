"""Tracks in a terminal: live during a generation, or replayed from a recording."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from unmask.pipelines.picture_trace import PictureFrame
from unmask.pipelines.trace import HIDDEN, Snapshot, Status, Track
from unmask.render import style
from unmask.render.layout import arrange, counts, fit, one_line, reserved
from unmask.render.timeline import Moment, timeline

BLOCKS: dict[Status, str] = {"masked": "░", "waiting": "·", "remasked": "▒"}
NARROWEST = 28
"""Columns that a track needs; tracks that do not fit side by side go below."""
WIDEST = 100
"""Columns beyond which lines are hard to read."""
LOWEST = 3
"""Lines of a panel with one line of text."""
UNSURE = 0.5
"""Kept tokens with a lower confidence have another colour."""
# The background is the user's, so text has named colours, which the user's theme makes readable.
STYLES: dict[Status, str] = {
    "given": "bold bright_blue",
    "masked": "dim",
    "waiting": "dim",
    "remasked": "magenta",
    "revealed": f"{style.hexadecimal(style.NEW)} on {style.hexadecimal(style.NEW_GROUND)}",
    "kept": "default",
}
UNSURE_STYLE = "yellow"
_REFRESH_SECONDS = 1 / 30
_BORDER = 4  # columns of a panel that are not text


class LiveDrawing(ABC):
    """Redraws something on a terminal until its block ends; a context manager.

    On a console that is not a terminal, or cannot draw blocks, it shows nothing. The terminal is
    restored even if the block raises.

    Args:
        console: Where to draw.
        transient: Remove the picture at the end, because the caller prints the result itself.
    """

    def __init__(self, console: Console, transient: bool) -> None:
        self._console = console
        self._transient = transient
        self._whole = False
        self._refreshed = 0.0
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if can_animate(self._console):
            self._live = Live(
                get_renderable=self._picture,
                console=self._console,
                auto_refresh=False,
                transient=self._transient,
                redirect_stdout=False,
                vertical_overflow="visible",
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            # A picture higher than the screen could not be removed again.
            self._whole = not self._transient
            self._live.stop()
            self._live = None

    @abstractmethod
    def _picture(self) -> Group:
        """Return what is shown; all of it if ``_whole``, else no more than fits the screen."""

    def _refresh(self, now: bool = True) -> None:
        """Draw; unless ``now``, at most 30 times per second."""
        if self._live and (now or time.monotonic() - self._refreshed >= _REFRESH_SECONDS):
            self._live.refresh()
            self._refreshed = time.monotonic()


class LiveCanvas(LiveDrawing):
    """Shows one or several generations of text while they run.

    Args:
        console: Where to draw.
        labels: A label per track; tracks are drawn in this order.
        known: The last piece of each position of each track, if known, so that no token moves.
        transient: Remove the picture at the end, because the caller prints the text itself.
    """

    def __init__(
        self,
        console: Console,
        labels: Sequence[str],
        *,
        known: Sequence[Sequence[str]] | None = None,
        transient: bool = False,
    ) -> None:
        super().__init__(console, transient)
        pieces = known or [()] * len(labels)
        self._views = [_View(*pair) for pair in zip(labels, pieces, strict=True)]

    def update(self, index: int, snapshot: Snapshot) -> None:
        """Show a new snapshot of a track; at most 30 per second are drawn."""
        self._views[index].update(snapshot)
        self._refresh(now=False)

    def show(self, snapshots: Sequence[Snapshot]) -> None:
        """Show a snapshot of every track at once; each call is drawn."""
        for view, snapshot in zip(self._views, snapshots, strict=True):
            view.update(snapshot)
        self._refresh()

    def _picture(self) -> Group:
        """Return the tracks in rows: as many side by side as are readable."""
        across = min(max(self._console.width // NARROWEST, 1), max(len(self._views), 1))
        rows = [self._views[i : i + across] for i in range(0, len(self._views), across)]
        width = min(self._console.width // across, WIDEST)
        if self._whole or not rows:
            return Group(*(_row(row, width, None) for row in rows))
        height = self._console.height - 1
        rows = rows[: max(height // LOWEST, 1)]
        room = max(height // len(rows) - 2, 1)
        return Group(*(_row(row, width, room) for row in rows))


def play(
    tracks: Sequence[Track],
    console: Console,
    speed: float = 1.0,
    frame_seconds: float = 1 / 25,
) -> None:
    """Replay recordings side by side on one clock, for 4 to 12 seconds (see ``timeline``).

    Where ``can_animate`` is false it shows nothing; the caller prints the texts.

    Args:
        tracks: The recordings.
        console: Where to draw.
        speed: 2 is twice as fast.
        frame_seconds: Shortest time between two pictures.

    Raises:
        UserError: If there is nothing to show, or the speed is not a positive number.
    """
    moments = timeline(tracks, speed, frame_seconds)
    if not can_animate(console):
        return
    known = [reserved(track.snapshots) for track in tracks]
    with LiveCanvas(console, [track.label for track in tracks], known=known) as canvas:
        for shown in on_time(moments):
            canvas.show([track.snapshots[i] for track, i in zip(tracks, shown, strict=True)])


def on_time(moments: Iterable[Moment]) -> Iterator[tuple[int, ...]]:
    """Yield what each moment of a replay shows, when its time has come."""
    begun = time.monotonic()
    for moment in moments:
        time.sleep(max(begun + moment.at - time.monotonic(), 0.0))
        yield moment.shown


def can_animate(console: Console) -> bool:
    """Return whether the console is a terminal that can move its cursor and draw blocks."""
    unicode = console.encoding.lower().startswith("utf")
    return console.is_terminal and not console.is_dumb_terminal and unicode


def _row(views: Sequence[_View], width: int, room: int | None) -> Table:
    """Return panels of one height side by side, at most ``room`` lines of text high."""
    lines = [view.lines(width - _BORDER) for view in views]
    height = max(map(len, lines))
    grid = Table.grid()
    grid.add_row(*(v.panel(t, width, height, room) for v, t in zip(views, lines, strict=True)))
    return grid


def framed(
    content: RenderableType, label: str, state: Snapshot | PictureFrame | None, width: int
) -> Panel:
    """Return a frame with a label above its content and the cost so far below."""
    return Panel(
        content,
        title=Text(label, "bold default"),
        title_align="left",
        subtitle=Text(counts(state) if state else "waiting", "default"),
        subtitle_align="right",
        border_style="bright_black",
        width=width,
    )


class _View:
    """The state of one track on the screen."""

    def __init__(self, label: str, known: Sequence[str]) -> None:
        self._label = one_line(label)
        self._pieces = tuple(known)
        self._fixed = bool(known)
        self._snapshot: Snapshot | None = None
        self._focus = 0  # first line with a masked token

    def update(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        if not self._fixed:
            self._pieces = reserved([snapshot], self._pieces)

    def lines(self, columns: int) -> list[Text]:
        """Return the text as lines of at most ``columns`` columns."""
        cells = arrange(self._pieces, max(columns, 1))
        count = cells[-1].line + 1 if cells else 0
        lines = [Text(no_wrap=True, overflow="crop") for _ in range(count)]
        self._focus = len(lines)
        if self._snapshot is None:
            return lines
        pieces, status = self._snapshot.pieces, self._snapshot.status
        tokens = zip(cells, pieces, status, self._snapshot.confidence, strict=False)
        for cell, piece, state, confidence in tokens:
            content = fit(piece, cell.width)
            if state in HIDDEN:
                self._focus = min(self._focus, cell.line)
                content = BLOCKS[state] * cell.width
            line = lines[cell.line]
            line.append(" " * (cell.column - line.cell_len))
            line.append(content, _style(state, confidence))
        return lines

    def panel(self, lines: list[Text], width: int, height: int, room: int | None) -> Panel:
        """Return the lines in a frame, cropped to ``room`` lines around the first masked one."""
        first, shown = 0, height
        if room is not None and height > room:
            first, shown = min(max(self._focus - room // 2, 0), height - room), room
        texts = lines[first : first + shown]
        content = Group(*texts, *[Text()] * (shown - len(texts)))
        return framed(content, self._label, self._snapshot, width)


def _style(status: Status, confidence: float | None) -> str:
    if status == "kept" and confidence is not None and confidence < UNSURE:
        return UNSURE_STYLE
    return STYLES[status]

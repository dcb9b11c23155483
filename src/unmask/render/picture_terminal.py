"""Pictures in a terminal: two pixels in a character, live during a generation, or replayed.

    ▀   upper pixel in the colour of the text, lower one in that of the background

Without colours a character is a shade from blank (black) to a full block (white), and a dot where
nothing is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import count

import numpy as np
from numpy.typing import NDArray
from rich.align import Align
from rich.color import Color
from rich.console import Console, Group
from rich.panel import Panel
from rich.style import Style
from rich.table import Table
from rich.text import Text

from unmask.pipelines.picture_trace import PictureFrame, PictureTrack
from unmask.render import style
from unmask.render.layout import one_line
from unmask.render.pictures import Pixels, by_label, downscaled, near_square, shown, tiled
from unmask.render.terminal import LOWEST, LiveDrawing, can_animate, framed, on_time
from unmask.render.timeline import timeline

SHADES = " ░▒▓█"
UNDECIDED = "·"
COLUMNS = 80
"""Most columns of a picture as plain text."""
_NARROWEST = 36  # columns of a panel, for the cost below the picture
_BORDER = 4  # columns of a panel that are not picture
_LIGHT = (0.299, 0.587, 0.114)  # how bright red, green and blue are (ITU-R BT.601)
_COLOURED = ("256", "truecolor")


class LivePicture(LiveDrawing):
    """Shows pictures while they are generated, at a whole-number scale that fits the screen.

    Args:
        console: Where to draw.
        label: Above the picture.
        others: Labels of further panels, which follow the first one.
        transient: Remove the picture at the end.
    """

    def __init__(self, console: Console, label: str, *others: str, transient: bool = False) -> None:
        super().__init__(console, transient)
        self._labels = [one_line(text) for text in (label, *others)]
        self._panels: list[Sequence[PictureFrame]] = [()] * len(self._labels)

    def update(self, *frames: PictureFrame, panel: int = 0) -> None:
        """Show one frame, or several as a grid, in a panel; at most 30 per second are drawn."""
        self._panels[panel] = frames
        self._refresh(now=False)

    def show(self, panels: Sequence[Sequence[PictureFrame]]) -> None:
        """Show the frames of every panel at once; each call is drawn."""
        self._panels = list(panels)
        self._refresh()

    def _picture(self) -> Group:
        factor, width, across = _fitted(self._console, self._panels)
        rows = []
        for start in range(0, len(self._panels), across):
            grid = Table.grid()
            chosen = range(start, min(start + across, len(self._panels)))
            grid.add_row(*(self._panel(index, factor, width) for index in chosen))
            rows.append(grid)
        return Group(*rows[: max((self._console.height - 1) // LOWEST, 1)])

    def _panel(self, index: int, factor: int, width: int) -> Panel:
        frames = self._panels[index]
        draw = _in_colours if _has_colours(self._console) else _in_shades
        lines = draw(frames, factor) if frames else []
        state = frames[0] if frames else None
        return framed(Align.center(Group(*lines)), self._labels[index], state, width)


def play_pictures(
    tracks: Sequence[PictureTrack],
    console: Console,
    speed: float = 1.0,
    frame_seconds: float = 1 / 25,
) -> None:
    """Replay recordings on one clock, for 4 to 12 seconds (see ``timeline``).

    Where ``can_animate`` is false it shows nothing.

    Args:
        tracks: The recordings; those of one label are one grid.
        console: Where to draw.
        speed: 2 is twice as fast.
        frame_seconds: Shortest time between two pictures.

    Raises:
        UserError: If there is nothing to show, or the speed is not a positive number.
    """
    moments = timeline(tracks, speed, frame_seconds)
    if not can_animate(console):
        return
    groups = by_label(tracks)
    with LivePicture(console, *(tracks[group[0]].label for group in groups)) as live:
        for now in on_time(moments):
            live.show([[tracks[i].frames[now[i]] for i in group] for group in groups])


def as_text(frame: PictureFrame) -> str:
    """Return a picture as lines of shades, at most ``COLUMNS`` wide."""
    return "\n".join(shades(frame, -(-frame.pixels.shape[1] // COLUMNS)))


def half_blocks(image: Pixels) -> list[Text]:
    """Return an image of shape (H, W, 3) as (H + 1) // 2 lines of W characters."""
    lines = []
    colours = image.tolist()
    for row in range(0, len(colours), 2):
        lower = colours[row + 1] if row + 1 < len(colours) else [None] * len(colours[row])
        line = Text(no_wrap=True, overflow="crop")
        for above, below in zip(colours[row], lower, strict=True):
            line.append("▀", _style(tuple(above), tuple(below) if below else None))
        lines.append(line)
    return lines


def shades(frame: PictureFrame, factor: int = 1) -> list[str]:
    """Return a picture as lines of characters, each for 2 * factor rows and factor columns.

    A character is the mean of the pixels with a decided channel.
    """
    known: NDArray[np.bool_] = np.any(~frame.undecided, axis=2)
    weight = _sums(known.astype(np.float64), factor)
    bright: NDArray[np.float64] = (shown(frame) * np.array(_LIGHT)).sum(axis=2)
    light = _sums(np.where(known, bright, 0.0), factor)
    levels = np.rint(light / np.maximum(weight, 1) / 255 * (len(SHADES) - 1)).astype(int)
    rows = zip(levels.tolist(), weight.tolist(), strict=True)
    return [
        "".join(SHADES[n] if w else UNDECIDED for n, w in zip(*row, strict=True)) for row in rows
    ]


def _sums(values: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Return the sum over each block of 2 * factor rows and factor columns."""
    height, width = values.shape
    whole = np.pad(values, ((0, -height % (2 * factor)), (0, -width % factor)))
    blocks = whole.reshape(whole.shape[0] // (2 * factor), 2 * factor, -1, factor)
    sums: NDArray[np.float64] = blocks.sum(axis=(1, 3))
    return sums


def _in_colours(frames: Sequence[PictureFrame], factor: int) -> list[Text]:
    """Return frames as a grid of half blocks, with a gap of a pixel."""
    images = [downscaled(shown(frame), factor) for frame in frames]
    return half_blocks(tiled(images, pad=1, colour=style.GROUND)[1:-1, 1:-1])


def _in_shades(frames: Sequence[PictureFrame], factor: int) -> list[Text]:
    """Return frames as a grid of shades, with a gap of a character."""
    pictures = [shades(frame, factor) for frame in frames]
    columns = near_square(len(pictures))
    lines: list[str] = []
    for start in range(0, len(pictures), columns):
        lines += ["", *map(" ".join, zip(*pictures[start : start + columns], strict=True))]
    return [Text(line, no_wrap=True, overflow="crop") for line in lines[1:]]


def _fitted(console: Console, panels: Sequence[Sequence[PictureFrame]]) -> tuple[int, int, int]:
    """Return pixels per character, the columns of a panel and the panels side by side."""
    largest = max((max(f[0].pixels.shape) for f in panels if f), default=1)
    for factor in count(1):
        sizes = [_size(frames, factor) for frames in panels]
        lines, columns = (max(side) for side in zip(*sizes, strict=True))
        width = max(columns + _BORDER, min(_NARROWEST, console.width))
        across = max(min(len(panels), console.width // width), 1)
        high = -(-len(panels) // across) * (lines + 2)
        if (width <= console.width and high < console.height) or factor >= largest:
            return factor, width, across
    raise AssertionError


def _size(frames: Sequence[PictureFrame], factor: int) -> tuple[int, int]:
    """Return the lines and columns of a grid of frames."""
    if not frames:
        return 1, 1
    height, width, _ = frames[0].pixels.shape
    across = near_square(len(frames))
    down = -(-len(frames) // across)
    return down * (-(-height // (2 * factor)) + 1) - 1, across * (-(-width // factor) + 1) - 1


def _has_colours(console: Console) -> bool:
    return not console.no_color and console.color_system in _COLOURED


@lru_cache(maxsize=2**16)
def _style(above: style.Colour, below: style.Colour | None) -> Style:
    return Style(
        color=Color.from_rgb(*above), bgcolor=None if below is None else Color.from_rgb(*below)
    )

"""One frame of a picture GIF: a panel of enlarged pictures per label, in 256 colours.

The colours of the pictures are exact if there are few enough, as those of grey pictures mostly are.
Imports Pillow, so it is itself imported only where a picture is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unmask.pipelines.picture_trace import PictureFrame, PictureTrack
from unmask.render import style
from unmask.render.gif_panels import PAIRS, Panels, blends, fonts, palette
from unmask.render.layout import counts
from unmask.render.pictures import Pixels, by_label, near_square, shown, upscaled

SIDES = (320, 224, 160)
"""About how many pixels a picture is high and wide if a panel has a row of 1, 2, or more of it."""
_NARROWEST = 260  # pixels that the footer needs
_BETWEEN = 6  # pixels between the pictures of a panel
_ACROSS = 3  # panels side by side
_SAMPLE = 2**14  # about as many colours make a palette
_COLOURS = 255  # of a GIF, one of whose 256 is kept for transparency


class PicturePage:
    """The layout of a picture GIF; draws its frames.

    Args:
        tracks: The recordings; those of one label share a panel.
        indices: The frames that will be drawn, for each track, which set the palette.
        title: A line on top.
    """

    def __init__(
        self, tracks: Sequence[PictureTrack], indices: Sequence[set[int]], title: str | None
    ) -> None:
        self._tracks = tracks
        self._groups = by_label(tracks)
        self._grids = [_Grid(tracks[g[0]].frames[0], len(g)) for g in self._groups]
        self._chrome = _chrome()
        self._colours = _Colours(tracks, indices, _COLOURS - len(self._chrome))
        labels = [tracks[group[0]].label for group in self._groups]
        across = min(len(labels), _ACROSS)
        width = max(_NARROWEST, *(grid.width for grid in self._grids))
        height = max(grid.height for grid in self._grids)
        self._width = width
        self._panels = Panels(labels, across, width, height, title, *fonts())
        self._palette = palette(self._chrome)

    def draw(self, shown_now: Sequence[int]) -> Image.Image:
        """Return a picture with one frame of each track, in palette mode.

        Args:
            shown_now: Index of the frame, for each track.
        """
        ground = self._panels.background().copy()
        frames = [t.frames[i] for t, i in zip(self._tracks, shown_now, strict=True)]
        for index, group in enumerate(self._groups):
            first = frames[group[0]]
            done = sum(frames[member].done for member in group) / len(group)
            self._panels.draw_footer(ground, index, counts(first), done)
        flat = np.array(ground.quantize(palette=self._palette, dither=Image.Dither.NONE))
        for index, group in enumerate(self._groups):
            left, top = self._panels.inside(index)
            grid = self._grids[index]
            left += (self._width - grid.width) // 2
            for place, member in enumerate(group):
                x, y = grid.corner(place)
                codes = upscaled(self._colours.indices(frames[member]), grid.scale)
                high, wide = codes.shape
                area = slice(top + y, top + y + high), slice(left + x, left + x + wide)
                flat[area] = codes + len(self._chrome)
        image = Image.fromarray(flat)
        image.putpalette([*np.ravel(self._chrome).tolist(), *self._colours.palette])
        return image


class _Grid:
    """The places of the pictures of one panel, and how much they are enlarged."""

    def __init__(self, frame: PictureFrame, count: int) -> None:
        self.columns = near_square(count)
        side = SIDES[min(self.columns, len(SIDES)) - 1]
        rows, columns, _ = frame.pixels.shape
        self.scale = max(round(side / max(rows, columns)), 1)
        self._step = (columns * self.scale + _BETWEEN, rows * self.scale + _BETWEEN)
        self.width = self.columns * self._step[0] - _BETWEEN
        self.height = -(-count // self.columns) * self._step[1] - _BETWEEN

    def corner(self, place: int) -> tuple[int, int]:
        """Return the left and upper edge of a picture."""
        row, column = divmod(place, self.columns)
        return column * self._step[0], row * self._step[1]


class _Colours:
    """One palette for all frames of the pictures: exact if their colours fit, else the nearest."""

    def __init__(
        self, tracks: Sequence[PictureTrack], indices: Sequence[set[int]], room: int
    ) -> None:
        pairs = zip(tracks, indices, strict=True)
        images = [shown(track.frames[i]) for track, chosen in pairs for i in sorted(chosen)]
        codes = np.concatenate([_packed(image).ravel() for image in images])
        self._known = np.unique(codes)
        colours = _unpacked(self._known)
        if len(colours) > room:
            ends = [_packed(shown(track.frames[-1])).ravel() for track in tracks]
            last = np.isin(self._known, np.concatenate(ends))
            chosen = _representatives(colours, last, room)
            self._index = _nearest(colours, chosen)
            colours = chosen
        else:
            self._index = np.arange(len(colours), dtype=np.uint8)
        self.palette: list[int] = colours.ravel().tolist()

    def indices(self, frame: PictureFrame) -> Pixels:
        """Return the palette indices of a frame, shape (H, W)."""
        found: Pixels = self._index[np.searchsorted(self._known, _packed(shown(frame)))]
        return found


def _chrome() -> list[style.Colour]:
    """Return the colours of everything but the pictures."""
    pairs = [(style.PANEL, colour) for colour in (style.QUIET, style.FAINT, style.DONE)]
    return blends([*pairs, *PAIRS])


def _packed(image: Pixels) -> NDArray[np.uint32]:
    red, green, blue = np.moveaxis(image.astype(np.uint32), 2, 0)
    return red << 16 | green << 8 | blue


def _unpacked(codes: NDArray[np.uint32]) -> Pixels:
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.uint8)


def _representatives(colours: Pixels, last: NDArray[np.bool_], room: int) -> Pixels:
    """Return at most ``room`` colours that stand for all, those of undecided pixels among them.

    Half of the weight is with the colours of the last frames, which are seen longest.
    """
    ground = np.array(style.UNDECIDED, dtype=np.uint8)
    room -= len(ground)
    # More colours would make the palette no better, and the search for it take minutes.
    others, ends = (some[:: len(some) // _SAMPLE + 1] for some in (colours[~last], colours[last]))
    ends = ends.repeat(max(len(others) // len(ends), 1), axis=0)
    sample = Image.fromarray(np.concatenate([ends, others])[None])
    kept = sample.quantize(room, Image.Quantize.MEDIANCUT, kmeans=1).getpalette()
    return np.concatenate([ground, np.array(kept, dtype=np.uint8).reshape(-1, 3)[:room]])


def _nearest(colours: Pixels, palette: Pixels) -> Pixels:
    """Return for each colour the index of the nearest one of a palette."""
    ends = palette.astype(np.float32)
    squares = (ends**2).sum(axis=1) / 2
    parts = np.array_split(colours.astype(np.float32), len(colours) // 4096 + 1)
    found = [(squares - part @ ends.T).argmin(axis=1) for part in parts]
    return np.concatenate(found).astype(np.uint8)

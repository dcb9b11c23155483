"""One frame of a GIF: a panel of text per track on a dark ground, in few colours.

Imports Pillow, so it is itself imported only where a picture is drawn.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from PIL import Image, ImageDraw

from unmask.pipelines.trace import HIDDEN, Snapshot, Status, Track
from unmask.render import style
from unmask.render.gif_panels import PAIRS, Panels, blends, fonts, palette, rounded
from unmask.render.layout import Cell, arrange, counts, fit, reserved

_COLUMNS = (64, 46, 36)  # characters per line if 1, 2, 3 tracks stand side by side
_LINE = 31  # pixels


class Page:
    """The layout of a GIF; draws its frames.

    Args:
        tracks: The recordings; a token keeps the place that its last piece needs.
        title: A line on top.
        columns: Characters per line of a track, or None to choose by the number of tracks.
        font: A monospaced TrueType file instead of DejaVu Sans Mono.

    Attributes:
        lines: Lines of text from top to bottom.

    Raises:
        UserError: If the font cannot be read.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        title: str | None,
        columns: int | None,
        font: str | os.PathLike[str] | None,
    ) -> None:
        self._font, self._bold = fonts(font)
        self._palette = palette(_colours())
        across = min(len(tracks), len(_COLUMNS))
        columns = columns or _COLUMNS[across - 1]
        self._advance = round(self._font.getlength("0"))
        self._cells = [arrange(reserved(track.snapshots), columns) for track in tracks]
        lines = max(cells[-1].line + 1 if cells else 1 for cells in self._cells)
        self.lines = -(-len(tracks) // across) * lines
        labels = [track.label for track in tracks]
        size = (columns * self._advance, lines * _LINE)
        self._panels = Panels(labels, across, *size, title, self._font, self._bold)

    def draw(self, snapshots: Sequence[Snapshot]) -> Image.Image:
        """Return a picture with one snapshot of each track, in palette mode."""
        picture = self._panels.background().copy()
        for index, snapshot in enumerate(snapshots):
            left, top = self._panels.inside(index)
            cells, pieces = self._cells[index], snapshot.pieces
            for token in zip(cells, pieces, snapshot.status, snapshot.confidence, strict=False):
                self._draw_token(picture, left, top, *token)
            self._panels.draw_footer(picture, index, counts(snapshot), _done(snapshot))
        return picture.quantize(palette=self._palette, dither=Image.Dither.NONE)

    def _draw_token(
        self,
        picture: Image.Image,
        left: int,
        top: int,
        cell: Cell,
        piece: str,
        status: Status,
        confidence: float | None,
    ) -> None:
        if not cell.width:
            return
        x, y = left + cell.column * self._advance, top + cell.line * _LINE
        if status in style.BLOCKS:
            low = 4 if status == "revealed" else 8
            block = rounded(cell.width * self._advance - 2, _LINE - 2 * low, 5)
            picture.paste(style.BLOCKS[status], (x + 1, y + low), block)
        if status not in HIDDEN:
            colour = style.text_colour(status, confidence)
            font = self._bold if status == "given" else self._font
            text = fit(piece, cell.width).rstrip()
            ImageDraw.Draw(picture).text((x, y + _LINE - 10), text, colour, font, anchor="ls")


def _done(snapshot: Snapshot) -> float:
    """Return the share of generated tokens that are not masked; the prompt does not count."""
    generated = [state not in HIDDEN for state in snapshot.status if state != "given"]
    return sum(generated) / len(generated) if generated else 1.0


def _colours() -> list[style.Colour]:
    pairs = [(style.PANEL, colour) for colour in style.ON_PANEL]
    pairs += [(style.NEW_GROUND, style.NEW), (style.DONE, style.DONE)]
    return blends([*pairs, *PAIRS])

"""One frame of a GIF: a panel of text per track on a dark ground, in few colours.

Imports Pillow, so it is itself imported only where a picture is drawn.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

from unmask.errors import UserError
from unmask.pipelines.trace import HIDDEN, Snapshot, Status, Track
from unmask.render import style
from unmask.render.layout import Cell, arrange, counts, fit, one_line, reserved

_COLUMNS = (64, 46, 36)  # characters per line if 1, 2, 3 tracks stand side by side
# Pixels. A DejaVu Sans Mono of size 20 is 12 pixels wide, so columns fall on whole pixels.
_SIZE, _SMALL, _LARGE = 20, 15, 24
_LINE = 31
_MARGIN = 36
_PADDING = 26
_BETWEEN = 24
_LABEL = 34
_FOOTER = 56
_TITLE = 52
_BLENDS = 6


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
        self._font, self._bold = _fonts(font)
        self._small = self._font.font_variant(size=_SMALL)
        self._palette = _palette()
        self._across = min(len(tracks), len(_COLUMNS))
        columns = columns or _COLUMNS[self._across - 1]
        self._advance = round(self._font.getlength("0"))
        self._cells = [arrange(reserved(track.snapshots), columns) for track in tracks]
        lines = max(cells[-1].line + 1 if cells else 1 for cells in self._cells)
        self._down = -(-len(tracks) // self._across)
        self.lines = self._down * lines
        self._width = columns * self._advance + 2 * _PADDING
        self._height = lines * _LINE + 2 * _PADDING + _FOOTER
        self._title = one_line(title or "")
        self._labels = [one_line(track.label) for track in tracks]
        self._background = cache(self._draw_background)

    def draw(self, snapshots: Sequence[Snapshot]) -> Image.Image:
        """Return a picture with one snapshot of each track, in palette mode."""
        picture = self._background().copy()
        for index, snapshot in enumerate(snapshots):
            left, top = self._corner(index)
            cells, pieces = self._cells[index], snapshot.pieces
            for token in zip(cells, pieces, snapshot.status, snapshot.confidence, strict=False):
                self._draw_token(picture, left + _PADDING, top + _PADDING, *token)
            self._draw_footer(ImageDraw.Draw(picture), left, top + self._height, snapshot)
        return picture.quantize(palette=self._palette, dither=Image.Dither.NONE)

    def _draw_background(self) -> Image.Image:
        right, bottom = self._corner(self._down * self._across - 1)
        width, height = right + self._width + _MARGIN, bottom + self._height + _MARGIN
        picture = Image.new("RGB", (width, height), style.GROUND)
        brush = ImageDraw.Draw(picture)
        large, small = (self._bold.font_variant(size=n) for n in (_LARGE, _SMALL + 2))
        title = _shortened(self._title, large, width - 2 * _MARGIN)
        brush.text((_MARGIN, _MARGIN + 22), title, style.INK, large, anchor="ls")
        for index, label in enumerate(self._labels):
            left, top = self._corner(index)
            text = _shortened(label, small, self._width - _PADDING)
            brush.text((left + 2, top - 18), text, style.QUIET, small, anchor="ls")
            picture.paste(style.PANEL, (left, top), _rounded(self._width, self._height, 14))
        return picture

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
            block = _rounded(cell.width * self._advance - 2, _LINE - 2 * low, 5)
            picture.paste(style.BLOCKS[status], (x + 1, y + low), block)
        if status not in HIDDEN:
            colour = style.text_colour(status, confidence)
            font = self._bold if status == "given" else self._font
            text = fit(piece, cell.width).rstrip()
            ImageDraw.Draw(picture).text((x, y + _LINE - 10), text, colour, font, anchor="ls")

    def _draw_footer(
        self, brush: ImageDraw.ImageDraw, left: int, bottom: int, snapshot: Snapshot
    ) -> None:
        left, right, bottom = left + _PADDING, left + self._width - _PADDING, bottom - _PADDING + 2
        # The bar starts empty: the prompt does not count as progress.
        generated = [state not in HIDDEN for state in snapshot.status if state != "given"]
        share = sum(generated) / len(generated) if generated else 1.0
        brush.text((right, bottom), counts(snapshot), style.QUIET, self._small, anchor="rs")
        y = bottom - 30
        brush.rectangle((left, y, right, y + 1), style.FAINT)
        if share > 0:
            brush.rectangle((left, y, left + round(share * (right - left)), y + 1), style.DONE)

    def _corner(self, index: int) -> tuple[int, int]:
        """Return the left and upper edge of a panel, whose label is above."""
        row, column = divmod(index, self._across)
        left = _MARGIN + column * (self._width + _BETWEEN)
        top = _MARGIN + (_TITLE if self._title else 0)
        return left, top + _LABEL + row * (self._height + _LABEL + _BETWEEN)


def _fonts(font: str | os.PathLike[str] | None) -> tuple[FreeTypeFont, FreeTypeFont]:
    """Return the plain and the bold font."""
    if font is None:
        from matplotlib import get_data_path

        folder = Path(get_data_path(), "fonts", "ttf")
        plain, bold = folder / "DejaVuSansMono.ttf", folder / "DejaVuSansMono-Bold.ttf"
    else:
        plain = bold = Path(font)
    try:
        return ImageFont.truetype(str(plain), _SIZE), ImageFont.truetype(str(bold), _SIZE)
    except OSError as error:
        raise UserError(f"cannot read the font {plain}; pass a TrueType file") from error


def _shortened(text: str, font: FreeTypeFont, pixels: int) -> str:
    return fit(text, max(int(pixels / font.getlength("0")), 1)).rstrip()


@cache
def _rounded(width: int, height: int, radius: int) -> Image.Image:
    """Return a rectangle with smooth corners as a mask; Pillow's own has jagged ones."""
    scale = 4
    large = Image.new("L", (width * scale, height * scale), 0)
    box = (0, 0, width * scale - 1, height * scale - 1)
    ImageDraw.Draw(large).rounded_rectangle(box, radius * scale, 255)
    return large.resize((width, height), Image.Resampling.BOX)


def _palette() -> Image.Image:
    """Return all colours and their blends with the grounds, for the smooth edges of text.

    One palette for all frames keeps the file small and the colours from flickering.
    """
    pairs = [(style.PANEL, colour) for colour in style.ON_PANEL]
    pairs += [(style.NEW_GROUND, style.NEW), (style.DONE, style.DONE)]
    pairs += [(style.GROUND, colour) for colour in (style.INK, style.QUIET, style.PANEL)]
    blends = {style.mix(*pair, step / (_BLENDS - 1)) for pair in pairs for step in range(_BLENDS)}
    palette = Image.new("P", (1, 1))
    palette.putpalette([channel for colour in sorted(blends) for channel in colour])
    return palette

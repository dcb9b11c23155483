"""One picture of a GIF: a panel of text per track on a dark ground, in few colours.

Imports Pillow, so it is itself imported only where a picture is drawn.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from unmask.errors import UserError
from unmask.pipelines.trace import HIDDEN, Snapshot, Status, Track
from unmask.render import style
from unmask.render.layout import Cell, arrange, counts, fit, one_line, reserved
from unmask.render.style import Colour

_COLUMNS = (64, 46, 36)  # characters per line if 1, 2, 3 tracks stand side by side
# Pixels. A DejaVu Sans Mono of size 20 is 12 wide to a hair, so columns fall on whole pixels.
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
    """The layout of a GIF, and the brush for its frames.

    Args:
        tracks: What will be drawn; a token keeps the place that its last piece needs.
        title: A line on top.
        columns: Characters per line of a track, or None for what suits their number.
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
        self._tile = cache(_rounded)
        self._palette = _palette()
        self._across = min(len(tracks), len(_COLUMNS))
        self._down = -(-len(tracks) // self._across)
        columns = columns or _COLUMNS[self._across - 1]
        self._advance = round(self._font.getlength("0"))
        self._cells = [arrange(reserved(track.snapshots), columns) for track in tracks]
        lines = max(cells[-1].line + 1 if cells else 1 for cells in self._cells)
        self.lines = self._down * lines
        self._labels = [one_line(track.label) for track in tracks]
        self._title = one_line(title or "")
        self._width = columns * self._advance + 2 * _PADDING
        self._height = lines * _LINE + 2 * _PADDING + _FOOTER
        self._blank: Image.Image | None = None

    def draw(self, snapshots: Sequence[Snapshot]) -> Image.Image:
        """Return a picture with one snapshot of each track, in palette mode."""
        if self._blank is None:
            self._blank = self._background()
        picture = self._blank.copy()
        for index, snapshot in enumerate(snapshots):
            self._draw_text(picture, index, snapshot)
            self._draw_footer(picture, index, snapshot)
        return picture.quantize(palette=self._palette, dither=Image.Dither.NONE)

    def _background(self) -> Image.Image:
        right, bottom = self._corner(self._down * self._across - 1)
        width, height = right + self._width + _MARGIN, bottom + self._height + _MARGIN
        picture = Image.new("RGB", (width, height), style.GROUND)
        brush = ImageDraw.Draw(picture)
        if self._title:
            bold = self._bold.font_variant(size=_LARGE)
            title = _shortened(self._title, bold, width - 2 * _MARGIN)
            brush.text((_MARGIN, _MARGIN + 22), title, style.INK, bold, anchor="ls")
        small = self._bold.font_variant(size=_SMALL + 2)
        panel = _rounded(self._width, self._height, 14, style.PANEL, style.GROUND)
        for index, label in enumerate(self._labels):
            left, top = self._corner(index)
            text = _shortened(label, small, self._width - _PADDING)
            brush.text((left + 2, top - 18), text, style.QUIET, small, anchor="ls")
            picture.paste(panel, (left, top))
        return picture

    def _draw_text(self, picture: Image.Image, index: int, snapshot: Snapshot) -> None:
        left, top = self._corner(index)
        tokens = zip(
            self._cells[index],
            snapshot.pieces,
            snapshot.status,
            snapshot.confidence,
            strict=False,
        )
        for cell, piece, status, confidence in tokens:
            if not cell.width:
                continue
            x = left + _PADDING + cell.column * self._advance
            y = top + _PADDING + cell.line * _LINE
            self._draw_token(picture, (x, y), cell, piece, status, confidence)

    def _draw_token(
        self,
        picture: Image.Image,
        place: tuple[int, int],
        cell: Cell,
        piece: str,
        status: Status,
        confidence: float | None,
    ) -> None:
        x, y = place
        block = {"masked": style.FAINT, "waiting": style.FAINTER, "remasked": style.AGAIN}
        block |= {"revealed": style.NEW_GROUND}
        if status in block:
            low = 4 if status == "revealed" else 8
            size = (cell.width * self._advance - 2, _LINE - 2 * low)
            tile = self._tile(*size, 5, block[status], style.PANEL)
            picture.paste(tile, (x + 1, y + low))
        if status in HIDDEN:
            return
        colour = {"given": style.GIVEN, "revealed": style.NEW}.get(
            status, style.confidence_colour(confidence)
        )
        font = self._bold if status == "given" else self._font
        text = fit(piece, cell.width).rstrip()
        ImageDraw.Draw(picture).text((x, y + _LINE - 10), text, colour, font, anchor="ls")

    def _draw_footer(self, picture: Image.Image, index: int, snapshot: Snapshot) -> None:
        left, top = self._corner(index)
        left, right = left + _PADDING, left + self._width - _PADDING
        bottom = top + self._height - _PADDING + 2
        # The prompt is no work done, so the bar starts empty behind it.
        writable = [state for state in snapshot.status if state != "given"]
        hidden = sum(state in HIDDEN for state in writable)
        share = 1 - hidden / len(writable) if writable else 1.0
        brush = ImageDraw.Draw(picture)
        small = self._font.font_variant(size=_SMALL)
        brush.text((right, bottom), counts(snapshot), style.QUIET, small, anchor="rs")
        y = bottom - 30
        brush.rectangle((left, y, right, y + 1), style.FAINT)
        if share > 0:
            brush.rectangle((left, y, left + round(share * (right - left)), y + 1), style.DONE)

    def _corner(self, index: int) -> tuple[int, int]:
        """Return the left and upper edge of a panel; its label stands above."""
        row, column = divmod(index, self._across)
        left = _MARGIN + column * (self._width + _BETWEEN)
        top = _MARGIN + (_TITLE if self._title else 0)
        return left, top + _LABEL + row * (self._height + _LABEL + _BETWEEN)


def _fonts(
    font: str | os.PathLike[str] | None,
) -> tuple[ImageFont.FreeTypeFont, ImageFont.FreeTypeFont]:
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


def _shortened(text: str, font: ImageFont.FreeTypeFont, pixels: int) -> str:
    room = max(int(pixels / font.getlength("0")), 1)
    return fit(text, room).rstrip()


def _rounded(width: int, height: int, radius: int, colour: Colour, around: Colour) -> Image.Image:
    """Return a rectangle with smooth corners, which Pillow does not draw by itself."""
    scale = 4
    large = Image.new("L", (width * scale, height * scale), 0)
    box = (0, 0, width * scale - 1, height * scale - 1)
    ImageDraw.Draw(large).rounded_rectangle(box, radius * scale, 255)
    mask = large.resize((width, height), Image.Resampling.BOX)
    tile = Image.new("RGB", (width, height), around)
    tile.paste(Image.new("RGB", (width, height), colour), (0, 0), mask)
    return tile


def _palette() -> Image.Image:
    """Return the colours of the page, with the shades that smooth edges need.

    One palette for all frames keeps the file small and the colours from flickering.
    """
    shades = [style.confidence_colour(i / (style.SHADES - 1)) for i in range(style.SHADES)]
    on_panel = [
        *shades,
        style.GIVEN,
        style.QUIET,
        style.FAINT,
        style.FAINTER,
        style.AGAIN,
        style.NEW_GROUND,
    ]
    pairs = [(style.PANEL, colour) for colour in on_panel]
    pairs += [(style.NEW_GROUND, style.NEW), (style.DONE, style.DONE)]
    pairs += [(style.GROUND, colour) for colour in (style.INK, style.QUIET, style.PANEL)]
    blends = {style.mix(*pair, step / (_BLENDS - 1)) for pair in pairs for step in range(_BLENDS)}
    palette = Image.new("P", (1, 1))
    palette.putpalette([channel for colour in sorted(blends) for channel in colour])
    return palette

"""The ground of a GIF: equal panels with a label above and the cost so far below, in few colours.

Imports Pillow, so it is itself imported only where a picture is drawn.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

from unmask.errors import UserError
from unmask.render import style
from unmask.render.layout import fit, one_line

# Pixels. A DejaVu Sans Mono of size 20 is 12 pixels wide, so columns fall on whole pixels.
_SIZE, _SMALL, _LARGE = 20, 15, 24
_MARGIN = 36
_PADDING = 26
_BETWEEN = 24
_LABEL = 34
_FOOTER = 56
_TITLE = 52
_BLENDS = 6
PAIRS = tuple((style.GROUND, colour) for colour in (style.INK, style.QUIET, style.PANEL))
"""Colours outside of the panels that smooth edges blend."""


class Panels:
    """Panels of one size in rows, on a dark ground.

    Args:
        labels: A label per panel.
        across: Panels per row.
        width: Pixels inside a panel.
        height: Pixels inside a panel, above its footer.
        title: A line on top.
        plain: The font of the footer.
        bold: The font of labels and title.
    """

    def __init__(
        self,
        labels: Sequence[str],
        across: int,
        width: int,
        height: int,
        title: str | None,
        plain: FreeTypeFont,
        bold: FreeTypeFont,
    ) -> None:
        self._labels = [one_line(label) for label in labels]
        self._across = across
        self._width = width + 2 * _PADDING
        self._height = height + 2 * _PADDING + _FOOTER
        self._title = one_line(title or "")
        self._small = plain.font_variant(size=_SMALL)
        self._bold = bold
        self.background = cache(self._draw_background)

    def inside(self, index: int) -> tuple[int, int]:
        """Return the left and upper edge of the inside of a panel."""
        left, top = self._corner(index)
        return left + _PADDING, top + _PADDING

    def draw_footer(self, picture: Image.Image, index: int, text: str, share: float) -> None:
        """Draw a bar of which ``share`` is full, and a text below it."""
        corner, top = self._corner(index)
        left, right = corner + _PADDING, corner + self._width - _PADDING
        bottom = top + self._height - _PADDING + 2
        brush = ImageDraw.Draw(picture)
        brush.text((right, bottom), text, style.QUIET, self._small, anchor="rs")
        y = bottom - 30
        brush.rectangle((left, y, right, y + 1), style.FAINT)
        if share > 0:
            brush.rectangle((left, y, left + round(share * (right - left)), y + 1), style.DONE)

    def _draw_background(self) -> Image.Image:
        down = -(-len(self._labels) // self._across)
        right, bottom = self._corner(down * self._across - 1)
        width, height = right + self._width + _MARGIN, bottom + self._height + _MARGIN
        picture = Image.new("RGB", (width, height), style.GROUND)
        brush = ImageDraw.Draw(picture)
        large, small = (self._bold.font_variant(size=n) for n in (_LARGE, _SMALL + 2))
        title = shortened(self._title, large, width - 2 * _MARGIN)
        brush.text((_MARGIN, _MARGIN + 22), title, style.INK, large, anchor="ls")
        for index, label in enumerate(self._labels):
            left, top = self._corner(index)
            text = shortened(label, small, self._width - _PADDING)
            brush.text((left + 2, top - 18), text, style.QUIET, small, anchor="ls")
            picture.paste(style.PANEL, (left, top), rounded(self._width, self._height, 14))
        return picture

    def _corner(self, index: int) -> tuple[int, int]:
        """Return the left and upper edge of a panel, whose label is above."""
        row, column = divmod(index, self._across)
        left = _MARGIN + column * (self._width + _BETWEEN)
        top = _MARGIN + (_TITLE if self._title else 0)
        return left, top + _LABEL + row * (self._height + _LABEL + _BETWEEN)


def fonts(font: str | os.PathLike[str] | None = None) -> tuple[FreeTypeFont, FreeTypeFont]:
    """Return the plain and the bold font: DejaVu Sans Mono, or a TrueType file for both.

    Raises:
        UserError: If the font cannot be read.
    """
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


def shortened(text: str, font: FreeTypeFont, pixels: int) -> str:
    """Return a text, cut so that it is at most so many pixels wide."""
    return fit(text, max(int(pixels / font.getlength("0")), 1)).rstrip()


@cache
def rounded(width: int, height: int, radius: int) -> Image.Image:
    """Return a rectangle with smooth corners as a mask; Pillow's own has jagged ones."""
    scale = 4
    large = Image.new("L", (width * scale, height * scale), 0)
    box = (0, 0, width * scale - 1, height * scale - 1)
    ImageDraw.Draw(large).rounded_rectangle(box, radius * scale, 255)
    return large.resize((width, height), Image.Resampling.BOX)


def blends(pairs: Iterable[tuple[style.Colour, style.Colour]]) -> list[style.Colour]:
    """Return the colours of some pairs and those between them, for the smooth edges of text.

    One palette for all frames keeps the file small and the colours from flickering.
    """
    shares = [step / (_BLENDS - 1) for step in range(_BLENDS)]
    return sorted({style.mix(*pair, share) for pair in pairs for share in shares})


def palette(colours: Iterable[style.Colour]) -> Image.Image:
    """Return a palette for ``Image.quantize``."""
    image = Image.new("P", (1, 1))
    image.putpalette([channel for colour in colours for channel in colour])
    return image

"""Pictures as arrays and PNG files: undecided sub-pixels, grids, whole-number enlargement.

PNG files are lossless: without padding and enlargement every value comes back as it was.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unmask.errors import UserError
from unmask.files import replacing
from unmask.render import style
from unmask.render.marks import PNG_METADATA, check_replaceable
from unmask.render.optional import viz_extra
from unmask.validation import within

if TYPE_CHECKING:
    from unmask.pipelines.picture_trace import PictureFrame, PictureTrack

Pixels = NDArray[np.uint8]
MIDDLE = 128
"""Level that stands for an undecided channel of a partly decided pixel."""
_LARGEST = 2**15
"""Most pixels of a PNG along one side."""


def shown(frame: PictureFrame) -> Pixels:
    """Return how a partly undecided picture looks, as RGB.

    A decided sub-pixel shows its value. A pixel without a decided channel is a square of the
    chequered ground, two colours of ``style``. An undecided channel of another pixel is halfway
    between the middle level and that ground.

    Returns:
        Shape (H, W, 3), uint8.
    """
    height, width, _ = frame.pixels.shape
    ground = chequered(height, width)
    blank = frame.undecided.all(axis=2, keepdims=True)
    faint = np.where(blank, ground, (ground.astype(np.uint16) + MIDDLE) // 2)
    return np.where(frame.undecided, faint, frame.pixels).astype(np.uint8)


def chequered(height: int, width: int) -> Pixels:
    """Return the ground of undecided pixels, shape (height, width, 3)."""
    odd = np.indices((height, width)).sum(axis=0) % 2
    colours: Pixels = np.array(style.UNDECIDED, dtype=np.uint8)[odd]
    return colours


def upscaled(image: Pixels, scale: int) -> Pixels:
    """Return an image with every pixel as a square of ``scale`` pixels (nearest neighbour)."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def downscaled(image: Pixels, factor: int) -> Pixels:
    """Return an image with the mean of every square of ``factor`` pixels; edges are repeated."""
    height, width, _ = image.shape
    edges = ((0, -height % factor), (0, -width % factor), (0, 0))
    whole = np.pad(image, edges, mode="edge")
    blocks = whole.reshape(whole.shape[0] // factor, factor, -1, factor, image.shape[2])
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)


def near_square(count: int) -> int:
    """Return the columns of a grid that is as high as wide, or a row lower."""
    return math.isqrt(max(count, 1) - 1) + 1


def tiled(
    images: Sequence[Pixels] | Pixels,
    columns: int | None = None,
    pad: int = 0,
    colour: Sequence[int] | int = 0,
) -> Pixels:
    """Return images of one shape (H, W, C) as one, row by row.

    Args:
        images: At least one.
        columns: Images per row; by default as many rows as columns, or one row less.
        pad: Pixels between images and around them.
        colour: Of the padding, and of the places that are left over.
    """
    height, width, channels = images[0].shape
    columns = columns or near_square(len(images))
    rows = -(-len(images) // columns)
    size = (rows * (height + pad) + pad, columns * (width + pad) + pad, channels)
    sheet = np.full(size, colour, dtype=np.uint8)
    for index, image in enumerate(images):
        top = pad + index // columns * (height + pad)
        left = pad + index % columns * (width + pad)
        sheet[top : top + height, left : left + width] = image
    return sheet


def by_label(tracks: Sequence[PictureTrack]) -> list[list[int]]:
    """Return the indices of tracks, those of one label and one size together.

    The samples of one run share a label; they are drawn as one grid.
    """
    groups: dict[Any, list[int]] = {}
    for index, track in enumerate(tracks):
        shape = track.frames[0].pixels.shape if track.frames else None
        groups.setdefault((track.label, shape), []).append(index)
    return list(groups.values())


def save_png(path: str | os.PathLike[str], image: Pixels) -> None:
    """Write one image as a lossless PNG: grey (mode L) for one channel, else RGB.

    Args:
        path: The file; replaced whole or not at all, and only if this package wrote it.
        image: Shape (H, W), (H, W, 1) or (H, W, 3), uint8.

    Raises:
        UserError: If the image has another shape or type, the file is not a PNG of this package,
            Pillow is missing, or the file cannot be written.
    """
    array = np.asarray(image)
    array = array[:, :, None] if array.ndim == 2 else array
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (1, 3):
        raise UserError(
            f"an image is an array of uint8 of shape (H, W), (H, W, 1) or (H, W, 3), "
            f"not {array.dtype} of {array.shape}"
        )
    _check_size(*array.shape[:2])
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise UserError(f"a picture goes to a file that ends in .png, not {target}")
    check_replaceable(target)
    with viz_extra("a PNG"):
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo
    marks = PngInfo()
    for key, value in PNG_METADATA.items():
        marks.add_text(key, value)
    picture = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    with replacing(target) as part:
        picture.save(part, format="PNG", pnginfo=marks)


def save_grid(
    path: str | os.PathLike[str],
    images: Pixels,
    columns: int | None = None,
    pad: int = 1,
    scale: int = 1,
) -> None:
    """Write images as one lossless PNG, row by row.

    Args:
        path: The file; replaced whole or not at all, and only if this package wrote it.
        images: Shape (N, H, W, C), uint8, with C = 1 or 3.
        columns: Images per row; by default as many rows as columns, or one row less.
        pad: Pixels between images and around them.
        scale: Every pixel, padding included, becomes a square of so many.

    Raises:
        UserError: If there is no image, a number is out of range, or as by ``save_png``.
    """
    array = np.asarray(images)
    if array.ndim != 4 or not array.size or array.dtype != np.uint8:
        raise UserError(
            f"a grid takes an array of uint8 of shape (N, H, W, C), not {array.dtype} of "
            f"{array.shape}"
        )
    if columns is not None:
        within("columns", columns, 1)
    within("pad", pad, 0, _LARGEST)
    within("scale", scale, 1, _LARGEST)
    red, green, blue = style.FAINT
    colour = (red, green, blue) if array.shape[3] == 3 else (red + green + blue) // 3
    sheet = tiled(array, columns, pad, colour)
    _check_size(sheet.shape[0] * scale, sheet.shape[1] * scale)
    save_png(path, upscaled(sheet, scale))


def _check_size(height: int, width: int) -> None:
    if not (0 < height <= _LARGEST and 0 < width <= _LARGEST):
        raise UserError(
            f"a PNG has 1 to {_LARGEST} pixels along a side, not {width} x {height}; draw fewer "
            "pictures, or at a smaller scale"
        )

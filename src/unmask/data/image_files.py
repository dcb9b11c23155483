"""Image files as arrays of bytes: decoded by Pillow, converted to 8-bit grey or RGB, resized.

What a conversion changes is counted, and what cannot be an image of a data set is refused: damaged
files, animations, and sizes above ``MOST_PIXELS``, which are read from the header before anything
is decoded.
"""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from unmask.data.sources import Note, path_of
from unmask.data.text_files import open_bytes
from unmask.errors import UserError, optional_library, reason_of

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
"""The pixels of one image, (H, W, C) with C = 1 (grey) or 3 (RGB)."""
ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif")
"""Endings of image files. The format itself is found in the file, whatever its ending."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
"""Pillow's names of the formats that are decoded."""
MOST_PIXELS = 64_000_000
"""Pixels of the largest image that is decoded."""

_PALETTE = "palette to RGB"
_ALPHA = "transparency to white"
_CMYK = "CMYK to RGB"
_DEEP = "16 bits to 8, so that 65535 becomes 255"
_BILEVEL = "1 bit to 8-bit grey"
_TURNED = "EXIF orientation to upright"
# What Pillow has to do for each value of the EXIF orientation; 1 is upright.
_ORIENTATION = 0x0112
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


class Conversions(Counter[str]):
    """How many images were converted in which way."""

    def tell(self, source: object, note: Note) -> None:
        """Note each kind of conversion with its count."""
        for kind, count in sorted((+self).items()):
            images = "1 image" if count == 1 else f"{count} images"
            note(f"converted {kind}: {images} of {source}")


class Shape(NamedTuple):
    """The size in pixels and the channels that images are brought to; None leaves them."""

    size: tuple[int, int] | None = None
    """Height and width."""
    channels: int | None = None

    @classmethod
    def of(cls, resize: int | tuple[int, int] | None, channels: int | None) -> Shape:
        """Check what a user asked for.

        Args:
            resize: The side of a square, or height and width.
            channels: 1 for grey, 3 for RGB.

        Raises:
            UserError: If a side is not a positive whole number, the image would be too large, or
                the channels are neither 1 nor 3.
        """
        if channels not in (None, 1, 3):
            raise UserError(f"channels is {channels!r}; choose 1 for grey or 3 for RGB")
        if resize is None:
            return cls(None, channels)
        sides = resize if isinstance(resize, tuple) else (resize, resize)
        if len(sides) != 2 or any(type(side) is not int or side < 1 for side in sides):
            raise UserError(
                f"resize is {resize!r}; give the side of a square in pixels, or height and width"
            )
        if sides[0] * sides[1] > MOST_PIXELS:
            raise UserError(f"resize is {resize!r}, more than 64 megapixels; choose a smaller size")
        return cls(sides, channels)

    def apply(self, pixels: Pixels) -> Pixels:
        """Return an image of this shape, cropped around its centre and resampled where needed.

        The image is cropped to the aspect ratio of the target, and then resampled by Pillow's
        LANCZOS filter, which averages where it reduces. An image of the right size stays as it is.
        Grey is Pillow's luma, (299 R + 587 G + 114 B) / 1000.
        """
        if self.size is not None and pixels.shape[:2] != self.size:
            pixels = _resampled(pixels, *self.size)
        if self.channels == 3 and pixels.shape[2] == 1:
            return pixels.repeat(3, axis=2)
        if self.channels == 1 and pixels.shape[2] == 3:
            return _array(_image(pixels).convert("L"))
        return pixels


def read_image(
    path: str | Path,
    *,
    channels: int | None = None,
    resize: int | tuple[int, int] | None = None,
    note: Note = warnings.warn,
) -> Pixels:
    """Return the pixels of an image file, (H, W, C) uint8 with C = 1 or 3.

    Args:
        path: A PNG, JPEG, WebP, BMP or GIF file with one image.
        channels: 1 for grey, 3 for RGB; None for what the file has.
        resize: The side of a square, or height and width; see ``Shape.apply``.
        note: Called with a line about each conversion.

    Raises:
        UserError: If there is no such file, or it is refused; see ``decode_file``.
    """
    shape = Shape.of(resize, channels)
    place = path_of(str(path))
    if not place.is_file():
        raise UserError(f"there is no file {path}; give the path of an image")
    conversions = Conversions()
    pixels = shape.apply(decode_file(place, conversions))
    conversions.tell(path, note)
    return pixels


def decode_file(path: Path, conversions: Conversions) -> Pixels:
    """Return the pixels of an image file, (H, W, C) uint8, and count how it was converted.

    Palettes and CMYK become RGB, transparency is composited on white, 16 bits and 1 bit become 8,
    and the EXIF orientation is applied. Of 16-bit grey x becomes round(x / 257). Of 16-bit colour
    Pillow decodes the upper byte alone. Colour profiles are ignored.

    Raises:
        UserError: If the file is damaged, in another format, animated, or above ``MOST_PIXELS``.
    """
    with _refused(path), open_bytes(path) as file:
        return _decode(file, path, conversions)


def decode_bytes(content: bytes, name: str, conversions: Conversions) -> Pixels:
    """Decode the content of an image file as ``decode_file`` does; the name is for messages."""
    with _refused(name):
        return _decode(io.BytesIO(content), name, conversions)


@contextmanager
def _refused(name: object) -> Iterator[None]:
    """Name the image in the errors of reading it; a library can raise any error for a bad file."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        raise UserError(
            f"cannot read the image {name}: {_reason(error)}; repair it or take it out"
        ) from error


def _reason(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is damaged, or no PNG, JPEG, WebP, BMP or GIF file"
    return reason_of(error)


def _decode(file: BinaryIO | io.BufferedReader, name: object, conversions: Conversions) -> Pixels:
    with optional_library("an image file", "images"):
        from PIL import Image
    with warnings.catch_warnings():
        # Our own limit on the size is the lower one, and the other warnings are about metadata.
        warnings.simplefilter("ignore")
        try:
            image: Image.Image = Image.open(file, formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise _too_large(name, "more than 64 megapixels") from error
        with image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise _too_large(name, f"{width} x {height} pixels, more than 64 megapixels")
            # Phones write JPEG files with a second picture (MPO), a depth or a brightness.
            if image.format != "MPO" and getattr(image, "is_animated", False):
                raise UserError(
                    f"the image {name} is animated; save one of its frames as an image, or take "
                    "it out"
                )
            if image.format == "PNG":
                _check_png(file)
            deep = image.format == "PNG" and _is_deep(file)
            return to_pixels(image, name, conversions, deep)


def _too_large(name: object, size: str) -> UserError:
    return UserError(f"the image {name} has {size}; make it smaller or take it out")


def _check_png(file: BinaryIO | io.BufferedReader) -> None:
    """Raise an error if a check sum of a PNG file is wrong or its end is missing.

    Pillow checks neither when it decodes the pixels.
    """
    from PIL import Image

    place = file.tell()
    file.seek(0)
    # ``verify`` takes an image apart, so it has one of its own; closing it would close the file.
    Image.open(file, formats=("PNG",)).verify()
    file.seek(place)


def _is_deep(file: BinaryIO | io.BufferedReader) -> bool:
    """Return whether a PNG file has 16 bits per channel, which Pillow does not tell of colours."""
    place = file.tell()
    file.seek(24)
    depth = file.read(1)
    file.seek(place)
    return depth == b"\x10"


def to_pixels(image: Image, name: object, conversions: Conversions, deep: bool = False) -> Pixels:
    """Return the pixels of a Pillow image, and count how it was converted.

    Args:
        image: The image, of any mode.
        name: Its name for messages.
        conversions: The counts, which are added to.
        deep: Whether the file has 16 bits per channel.

    Raises:
        UserError: If the pixels are real numbers or whole numbers above 16 bits, or a colour of 16
            bits is called transparent.
    """
    from PIL import Image

    image.load()
    turn = _TURNS.get(_orientation(image))
    if turn is not None:
        conversions[_TURNED] += 1
        image = image.transpose(Image.Transpose[turn])
    if image.mode == "F":
        raise _unfit(name, "real numbers as pixels")
    if image.mode.startswith("I"):
        return _from_16_bits(image, name, conversions)
    if deep and image.mode == "RGB" and "transparency" in image.info:
        # Pillow compares the colour of 16 bits with those of 8, and so finds none.
        raise _unfit(name, "a transparent colour of 16 bits")
    conversions[_DEEP] += deep
    conversions[_BILEVEL] += image.mode == "1"
    conversions[_PALETTE] += image.mode in ("P", "PA")
    conversions[_CMYK] += image.mode == "CMYK"
    if image.has_transparency_data:
        conversions[_ALPHA] += 1
        return _on_white(image, grey=image.mode in ("1", "L", "LA", "La"))
    return _array(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def _orientation(image: Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        # Damaged EXIF data say nothing about the pixels.
        return 1


def _unfit(name: object, what: str) -> UserError:
    return UserError(f"the image {name} has {what}; save it with 8 bits per channel")


def _from_16_bits(image: Image, name: object, conversions: Conversions) -> Pixels:
    """Scale 16-bit grey to 8 bits; the grey value that a PNG file calls transparent is white."""
    values = np.asarray(image)
    if values.size and not 0 <= values.min() <= values.max() <= 65535:
        raise _unfit(name, "pixels of more than 16 bits")
    conversions[_DEEP] += 1
    values = values.astype(np.uint32)
    clear = image.info.get("transparency")
    if clear is not None:
        conversions[_ALPHA] += 1
        values[values == clear] = 65535
    return ((2 * values + 257) // 514).astype(np.uint8)[..., None]


def _on_white(image: Image, grey: bool) -> Pixels:
    """Composite an image with transparency on white: round((a c + (255 - a) 255) / 255)."""
    content = _array(image.convert("RGBA")).astype(np.uint16)
    colours, alpha = content[..., :3], content[..., 3:]
    opaque = ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return opaque[..., :1] if grey else opaque


def _array(image: Image) -> Pixels:
    pixels = np.array(image, dtype=np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _image(pixels: Pixels) -> Image:
    with optional_library("changing the size or the channels of images", "images"):
        from PIL import Image
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def _resampled(pixels: Pixels, height: int, width: int) -> Pixels:
    image = _image(pixels)
    from PIL import Image

    scale = min(image.height / height, image.width / width)
    # At least a pixel, and never more than there are.
    tall = min(max(round(scale * height), 1), image.height)
    wide = min(max(round(scale * width), 1), image.width)
    top, left = (image.height - tall) // 2, (image.width - wide) // 2
    box = (left, top, left + wide, top + tall)
    # Cropped first: a box given to ``resize`` lets the filter see the pixels around it.
    return _array(image.crop(box).resize((width, height), Image.Resampling.LANCZOS))

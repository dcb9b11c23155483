"""Images <-> token ids: every sub-pixel is a token of ``levels`` values, in raster order.

A row is the class of the image, then its sub-pixels: row by row, in a row pixel by pixel, in a
pixel channel by channel. The ids are

    0 ... levels - 1    the values, from dark to bright
    levels              [MASK]; in place of the class: no class
    levels + 1 ...      the classes

Reference: Shi et al. 2024, "MD4", arXiv:2406.04329, Appendix I (256 values, no tokenizer).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unmask.errors import UserError, did_you_mean
from unmask.validation import Options, option, whole, words

MAX_LEVELS = 256


def _names(name: str, value: Any) -> tuple[str, ...]:
    return tuple(words(name, value))


@dataclass(frozen=True)
class PixelCodec(Options):
    """The ``Codec`` of images of one size; a datum is an array (H, W, C), uint8.

    Raises:
        UserError: If a number is out of range.
    """

    height: int = option(8, "Height in pixels.", whole, low=1, high=4096)
    width: int = option(8, "Width in pixels.", whole, low=1, high=4096)
    channels: int = option(1, "1 for grey, 3 for RGB.", whole, low=1, high=4)
    levels: int = option(MAX_LEVELS, "Values of a sub-pixel.", whole, low=2, high=MAX_LEVELS)
    classes: tuple[str, ...] = option((), "Names of the classes; () for none.", _names)

    tokenizer = None
    end = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.height, self.width, self.channels

    @property
    def in_words(self) -> str:
        """The images in words."""
        channels = {1: "grey", 3: "RGB"}.get(self.channels, f"{self.channels} channels")
        classes = f", classes {', '.join(self.classes)}" if self.classes else ", no classes"
        return f"images of {self.width} x {self.height} ({channels}, {self.levels} levels{classes})"

    @property
    def dims(self) -> int:
        """Sub-pixels of an image."""
        return self.height * self.width * self.channels

    @property
    def length(self) -> int:
        """Tokens of a row: the class and the sub-pixels."""
        return 1 + self.dims

    @property
    def entries(self) -> int:
        """Number of ids."""
        return self.levels + 1 + len(self.classes)

    @property
    def mask_token_id(self) -> int:
        return self.levels

    @property
    def pad_token_id(self) -> int:
        return self.levels

    @property
    def start(self) -> list[int]:
        """The token in place of a class: none."""
        return [self.levels]

    @cached_property
    def symbols(self) -> dict[int, str]:
        """Mask and classes by id."""
        return {self.levels: "[MASK]"} | dict(enumerate(self.classes, self.levels + 1))

    def class_id(self, label: str | int | None) -> int:
        """Return the id of a class by its name or number; of no class for None.

        Raises:
            UserError: If there is no such class.
        """
        if label is None:
            return self.levels
        if not self.classes:
            raise UserError("this model was trained without classes; leave the label out")
        if isinstance(label, str) and label in self.classes:
            return self.levels + 1 + self.classes.index(label)
        number = int(label) if isinstance(label, str) and label.isdecimal() else label
        if isinstance(number, str) or not 0 <= whole("label", number) < len(self.classes):
            raise UserError(f"unknown class {label!r}{did_you_mean(str(label), self.classes)}")
        return self.levels + 1 + number

    def encode(self, datum: Any) -> list[int]:
        ids: list[int] = self.quantised(self.checked(datum)).ravel().tolist()
        return ids

    def encode_all(self, data: Sequence[Any]) -> list[list[int]]:
        return [self.encode(datum) for datum in data]

    def decode(self, ids: Any) -> np.ndarray:
        """Return the image of sub-pixels (H W C,); a mask is mid-grey.

        Returns:
            Shape (H, W, C), uint8.
        """
        values = np.asarray(ids, dtype=np.int64).reshape(self.shape)
        bright = np.rint(values * 255 / (self.levels - 1)).clip(0, 255)
        return np.where(values == self.levels, 128, bright).astype(np.uint8)

    def quantised(self, pixels: np.ndarray) -> np.ndarray:
        """Return the nearest of the evenly spaced levels, any shape, int64; exact for 256."""
        return np.rint(pixels.astype(np.float64) * (self.levels - 1) / 255).astype(np.int64)

    def checked(self, image: Any) -> np.ndarray:
        """Return an image as an array.

        Raises:
            UserError: If it has another type or size.
        """
        found = np.asarray(image)
        if found.dtype != np.uint8:
            raise UserError(f"an image is an array of uint8, not of {found.dtype}")
        if found.ndim == 2:
            found = found[..., None]
        if found.shape != self.shape:
            size = " x ".join(map(str, found.shape))
            raise UserError(
                f"the image has {size} values (height, width, channels), but the model was trained "
                f"on {' x '.join(map(str, self.shape))}; resize it"
            )
        return found

    def units(self, datum: Any) -> dict[str, int]:
        return {"dims": int(np.asarray(datum).size)}

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [self.symbols.get(i, str(i)) if i != self.levels else "" for i in ids]

    def piece(self, token: int) -> str:
        return self.pieces([token])[0]

    def spellings(self, text: str) -> list[list[int]]:
        raise UserError("images have no words; leave out the texts to be banned or matched")

    def not_data(self, vocab_size: int) -> list[int]:
        return list(range(self.levels, vocab_size))

    def check_entries(self, entries: int) -> None:
        if entries < self.entries:
            raise UserError(
                f"the model has {entries} embeddings, but its images need {self.entries}; train or "
                "save the model again"
            )

    def save(self, directory: Path) -> None:
        """Write nothing: the card describes the images."""

    def as_card(self) -> dict[str, Any]:
        """Return the description of the images, fit for JSON."""
        return asdict(self) | {"classes": list(self.classes)}

"""Images as training data: each image is a row, its class and then its sub-pixels.

A recipe selects it with ``data.rows = "images"``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from unmask.data.image_rows import rows_of, text_of
from unmask.data.image_sets import HELD_OUT
from unmask.data.images import Images, read_images
from unmask.data.pixels import PixelCodec
from unmask.data.sources import Note
from unmask.data.text_rows import Text
from unmask.errors import UserError
from unmask.training.datasets import Material
from unmask.training.recipe import Recipe
from unmask.training.rows import Batch


class ImageDataset(Dataset[dict[str, Tensor]]):
    """Images as rows of ids; an item is ``input_ids`` (L,), int64."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.rows[index].long()}


@dataclass(frozen=True)
class ImageBatcher:
    """Mirrors images and drops classes at random; every sub-pixel can be noised.

    Args:
        codec: The layout of a row.
        flip: Whether every other image is mirrored left to right.
        label_dropout: Share of rows without their class.
    """

    codec: PixelCodec
    flip: bool
    label_dropout: float

    def __call__(self, items: dict[str, Tensor], generator: torch.Generator) -> Batch:
        """Return the batch of stacked items of an ``ImageDataset``."""
        rows = items["input_ids"].clone()
        # Drawn in any case, so that a run has the same masks with and without them.
        u = torch.rand((2, len(rows)), generator=generator, device=generator.device)
        if self.flip:
            images = rows[:, 1:].view(-1, *self.codec.shape)
            images = torch.where((u[0] < 0.5)[:, None, None, None], images.flip(2), images)
            rows[:, 1:] = images.reshape(len(rows), -1)
        rows[u[1] < self.label_dropout, 0] = self.codec.mask_token_id
        editable = torch.ones_like(rows, dtype=torch.bool)
        editable[:, 0] = False
        return Batch(rows, editable, editable.sum(1))


@dataclass(frozen=True)
class ImageSource:
    """Training images, and validation images from a source of their own or of the training data.

    Attributes:
        images: The training images.
        held_out: The validation images; None for no validation.
        codec: Their size, levels and classes.
    """

    images: Images
    held_out: Images | None
    codec: PixelCodec

    @classmethod
    def read(
        cls, data: str, validation: str | None, field: str, recipe: Recipe, note: Note
    ) -> ImageSource:
        """Read the sources.

        Without a source of its own, a random share of the images is held out.

        Raises:
            UserError: If a source cannot be read, both differ, or classes are missing.
        """
        section = recipe.images
        read = partial(
            read_images,
            field="image" if field == "text" else field,
            resize=section.resize or None,
            channels=section.channels or None,
            note=note,
        )
        images = read(data)
        if section.classes and images.labels is None:
            raise UserError(
                f"{data} has no classes, and images.classes is true; put the images of a class "
                "into a folder of its name, or pass --set images.classes=false"
            )
        height, width, channels = images.pixels.shape[1:]
        classes = images.classes if section.classes else ()
        codec = PixelCodec(height, width, channels, section.levels, classes)
        if validation is None:
            return cls(*_split(images, recipe.data.validation_share), codec)
        held_out = read(validation, split=HELD_OUT)
        if held_out.pixels.shape[1:] != images.pixels.shape[1:]:
            raise UserError(
                f"the images of {validation} have another size than those of {data}; pass "
                "--set images.resize=N"
            )
        if codec.classes and held_out.classes != images.classes:
            raise UserError(f"the images of {validation} have other classes than those of {data}")
        return cls(images, _at(held_out, _shuffled(len(held_out))), codec)

    @property
    def texts(self) -> tuple[str, ...]:
        """None: images need no tokenizer."""
        return ()

    @property
    def everything(self) -> Iterator[bytes]:
        """The values and classes of all images, the validation images last."""
        for part in filter(None, (self.images, self.held_out)):
            yield str((part.pixels.shape, part.classes)).encode()
            yield part.pixels.tobytes()
            yield b"" if part.labels is None else part.labels.tobytes()

    def lay_out(self, codec: PixelCodec, recipe: Recipe, _folder: Path) -> Material:
        """Lay out every image as a row.

        Raises:
            UserError: If there are fewer images than a batch.
        """
        training = recipe.training
        count, size = len(self.images.pixels), training.batch_size
        if not count:
            raise UserError(
                "no image is left for training; lower data.validation_share, or give more images"
            )
        if count < size:
            raise UserError(
                f"there are {count} training images, fewer than a batch of {size}; give more, or "
                f"pass --set training.batch_size={count}"
            )
        rows = rows_of(self.images, codec)
        validation: Callable[[int], Text] | None = None
        if self.held_out is not None:
            validation = partial(text_of, self.held_out, codec)
        return Material(
            items=ImageDataset(rows),
            batcher=ImageBatcher(codec, recipe.images.flip, recipe.images.label_dropout),
            noised=rows[:, 1:],
            validation=validation,
            facts={"images": count, "validation_images": self._held_out_count},
            length=codec.length,
        )

    @property
    def _held_out_count(self) -> int:
        return 0 if self.held_out is None else len(self.held_out.pixels)


def _split(images: Images, share: float) -> tuple[Images, Images | None]:
    """Return the images without a random share of them, and that share."""
    count = len(images.pixels)
    kept = count - math.ceil(count * share)
    if kept == count:
        return images, None
    order = _shuffled(count)
    return _at(images, np.sort(order[:kept])), _at(images, order[kept:])


def _shuffled(count: int) -> np.ndarray:
    """Return an order of images; sorted by class, their beginning or end would be of one class."""
    return np.random.default_rng(0).permutation(count)


def _at(images: Images, index: np.ndarray) -> Images:
    labels = None if images.labels is None else images.labels[index]
    return replace(images, pixels=images.pixels[index], labels=labels)

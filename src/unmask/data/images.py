"""Sets of images in memory, from files, folders, hub data sets and a set that needs no download.

A source is one of these:

- ``digits``: the 1797 digits of 8 x 8 pixels that come with scikit-learn, in 17 levels of grey.
- a folder of image files, with a class per sub-folder or a table of labels; see ``image_folders``.
- a folder of MNIST's IDX files, or one IDX file of images; see ``idx``.
- ``sprites:FOLDER?size=S``: sheets of many small images; see ``sprites``. CIFAR-10 as ConvNetJS
  stores it is ``sprites:../shared/data/cifar10?size=32&layout=rows&test=50``.
- a parquet file, a folder of them, or a hub data set id; see ``image_tables``.
- one image file, which is a set of one image.

Every image of a set has the same size and channels. Images come in the order of their file names
or rows, so a source is read the same way each time.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unmask.data.idx import find_idx, is_idx, read_idx_file, read_idx_folder
from unmask.data.image_files import ENDINGS, Conversions, Pixels, Shape, decode_file, read_image
from unmask.data.image_folders import read_folder
from unmask.data.image_sets import (
    ALL,
    FIELD,
    LABEL_FIELD,
    Picture,
    PictureSet,
    check_no_columns,
    check_no_splits,
    check_split_name,
    natural,
)
from unmask.data.image_tables import ENDINGS as TABLES
from unmask.data.image_tables import (
    Columns,
    read_hub_images,
    read_parquet,
    read_parquet_folder,
)
from unmask.data.sources import Note, note_left_out, partition, path_of
from unmask.data.sprites import PREFIX, read_sprites
from unmask.data.text_files import ending
from unmask.errors import UserError, optional_library

__all__ = ["Images", "read_image", "read_images"]

DIGITS_IN_TEST = 297
"""Images of ``digits`` in the split ``test``, the last ones; the first 1500 are for training."""

MOST_CLASSES = 100_000
"""Classes at most of a set that numbers them without names; higher numbers are something else."""
Labels = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, eq=False)
class Images:
    """A set of images of one size, with the indices and names of their classes.

    Args:
        pixels: (N, H, W, C) uint8, with C = 1 (grey) or 3 (RGB).
        labels: (N,) int64, indices into ``classes``; None if the images have no classes.
        classes: The names of the classes; empty without labels.
    """

    pixels: Pixels
    labels: Labels | None = None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)


def read_images(
    source: str,
    *,
    split: str = "train",
    field: str = FIELD,
    label_field: str = LABEL_FIELD,
    resize: int | tuple[int, int] | None = None,
    channels: int | None = None,
    note: Note = warnings.warn,
) -> Images:
    """Read all images of a source into memory.

    Args:
        source: See the documentation of this file; a path goes before ``digits`` and hub ids.
        split: ``train``, ``test``, ``validation`` or ``all``; of a hub data set, as it names them.
            A source without splits accepts ``train`` and ``all``, which are every image.
        field: The column of the images, for parquet files and hub data sets.
        label_field: The column of the labels, for these and for the table of a folder.
        resize: The side of a square, or height and width; each image is cropped around its centre
            to that aspect ratio and resampled by Pillow's LANCZOS filter. None for images that are
            of one size already.
        channels: 1 for grey, 3 for RGB; None for images that agree already.
        note: Called with a line about each kind of conversion, and about files that are left out.

    Raises:
        UserError: If there is no such source, split or column; if an image is damaged, animated or
            above 64 megapixels; if images differ in size or channels and nothing was said about
            it; if only some images have labels.
    """
    shape = Shape.of(resize, channels)
    conversions = Conversions()
    found = _open(source, split, Columns(field, label_field), conversions, note)
    pixels, labels = _collect(found.pictures, shape, source)
    conversions.tell(source, note)
    return Images(pixels, *_index(labels, found.classes, source))


def _open(
    source: str, split: str, columns: Columns, conversions: Conversions, note: Note
) -> PictureSet:
    if source.startswith(PREFIX):
        check_no_columns(source, *columns)
        return read_sprites(source, split, conversions, note)
    path = path_of(source)
    if path.is_dir():
        return _open_folder(path, split, columns, conversions, note)
    if ending(path) in TABLES and path.is_file():
        return read_parquet(path, split, columns, conversions, note)
    if not path.exists() and source != "digits" and ending(path) not in ENDINGS:
        return read_hub_images(source, split, columns, conversions, note)
    check_no_columns(source, *columns)
    if path.is_file():
        return _open_file(source, path, split, conversions)
    if source != "digits":
        raise UserError(f"there is no file {source}; give an image, a folder or a hub data set")
    return _digits(split)


def _open_file(source: str, path: Path, split: str, conversions: Conversions) -> PictureSet:
    if is_idx(path):
        return read_idx_file(source, path, split)
    if ending(path) not in ENDINGS:
        raise UserError(
            f"{source} is no file of images; give a folder of {', '.join(ENDINGS)} files, an IDX "
            "file or a parquet file"
        )
    check_no_splits(source, split)
    return PictureSet(Picture(source, decode_file(path, conversions)) for _ in range(1))


def _open_folder(
    folder: Path, split: str, columns: Columns, conversions: Conversions, note: Note
) -> PictureSet:
    source = str(folder)
    files, others = partition(folder, ENDINGS)
    idx = find_idx(others)
    tables, rest = partition(folder, TABLES) if not files and not idx else ([], [])
    if tables:
        note_left_out(folder, tables, rest, note)
        return read_parquet_folder(folder, tables, split, columns, conversions, note)
    if idx:
        check_no_columns(source, *columns)
        note_left_out(folder, list(idx.values()), files, note)
        return read_idx_folder(source, idx, split)
    if not files:
        raise UserError(
            f"{folder} holds no images, which end in {', '.join(ENDINGS)}, no IDX files and no "
            "parquet files; name a folder that does"
        )
    check_no_columns(source, columns.image)
    return read_folder(folder, files, others, split, columns.label, conversions, note)


def _digits(split: str) -> PictureSet:
    """Return scikit-learn's digits; grey level v of 16 becomes round(255 v / 16)."""
    wanted = check_split_name("digits", split, ("train", "test"))
    with optional_library("the data set digits", "images"):
        from sklearn.datasets import load_digits
    data = load_digits()
    pixels = np.rint(data.images * 255 / 16).astype(np.uint8)[..., None]
    cut = len(pixels) - DIGITS_IN_TEST
    part = {"train": slice(cut), "test": slice(cut, None), ALL: slice(None)}[wanted]
    pictures = (
        Picture("digits", image, int(label))
        for image, label in zip(pixels[part], data.target[part], strict=True)
    )
    return PictureSet(pictures, tuple(map(str, range(10))))


def _collect(
    pictures: Iterable[Picture], shape: Shape, source: str
) -> tuple[Pixels, list[int | str | None]]:
    """Return the pixels of all images, brought to one shape, and their labels."""
    kept: list[Pixels] = []
    labels: list[int | str | None] = []
    first: Picture | None = None
    for picture in pictures:
        pixels = shape.apply(picture.pixels)
        first = first or picture._replace(pixels=pixels)
        _check_alike(first, picture._replace(pixels=pixels))
        kept.append(pixels)
        labels.append(picture.label)
    if not kept:
        raise UserError(f"{source} holds no images; name a source that does")
    return np.stack(kept), labels


def _check_alike(first: Picture, other: Picture) -> None:
    """Raise a UserError if two images differ in size or channels."""
    (height, width, channels), (tall, wide, others) = first.pixels.shape, other.pixels.shape
    if (height, width) != (tall, wide):
        raise UserError(
            f"the images differ in size: {first.name} has {width} x {height} pixels and "
            f"{other.name} has {wide} x {tall}; give --resize N to bring all to N x N"
        )
    if channels != others:
        grey, colour = (first, other) if channels == 1 else (other, first)
        raise UserError(
            f"{grey.name} is grey and {colour.name} is RGB; give --channels 3 to read all as RGB, "
            "or --channels 1 to read all as grey"
        )


def _index(
    labels: list[int | str | None], classes: tuple[str, ...] | None, source: str
) -> tuple[Labels | None, tuple[str, ...]]:
    """Return labels as indices into the names of the classes, and these names."""
    missing = labels.count(None)
    if missing == len(labels):
        return None, ()
    if missing:
        raise UserError(
            f"{missing} of {len(labels)} images in {source} have no label, the first of them "
            f"number {labels.index(None) + 1}; add it, or take the images out"
        )
    names = {label for label in labels if isinstance(label, str)}
    numbers = {label for label in labels if isinstance(label, int)}
    if names and numbers:
        raise UserError(f"{source} has both numbers and names as labels; use one of them")
    if classes is None and numbers and max(numbers) >= MOST_CLASSES:
        raise UserError(
            f"{source} has a label {max(numbers)}, which is no class; choose another column with "
            "--label-field"
        )
    if classes is None:
        every = sorted(names, key=natural) if names else range(max(numbers) + 1)
        classes = tuple(map(str, every))
    position: dict[object, object] = {name: index for index, name in enumerate(classes)}
    unknown = sorted(names - position.keys()) + sorted(
        n for n in numbers if not 0 <= n < len(classes)
    )
    if unknown:
        raise UserError(
            f"{source} has a label {unknown[0]!r}, and classes 0 to {len(classes) - 1}; correct it"
        )
    # The indices of names; numbers stand for themselves.
    indices = [position.get(label, label) for label in labels]
    return np.array(indices, np.int64), classes

"""Sprite sheets: many small images in one PNG file, and their labels in a JSON file.

The source is ``sprites:FOLDER?size=S``, with these options joined by ``&``:

- ``size``: the height and width of an image in pixels.
- ``layout``: ``tiles`` (the usual one) cuts a sheet into S x S tiles, from left to right, then from
  top to bottom. ``rows``: each row of a sheet is one image, its S * S pixels in row order.
- ``test``: names of the sheets that are the test split, joined by commas; all others are for
  training.

The JSON file is an object with ``class_names``, a list, and ``labels``, which has a list of class
numbers for each sheet. A sheet is named by its file name without the ending, or by what follows the
last ``_`` in it. Without a JSON file there are no labels.

CIFAR-10 as in ConvNetJS (``cifar10_batch_0.png`` and so on) is
``sprites:../shared/data/cifar10?size=32&layout=rows&test=50``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl

from unmask.data.image_files import ENDINGS, Conversions, Pixels, decode_file
from unmask.data.image_sets import (
    ALL,
    Picture,
    PictureSet,
    check_no_splits,
    check_split_name,
    natural,
)
from unmask.data.sources import Note, note_left_out, partition, path_of
from unmask.data.text_files import open_text
from unmask.errors import UserError, did_you_mean, explained

PREFIX = "sprites:"
LAYOUTS = ("tiles", "rows")


class Sheets(NamedTuple):
    """What a source of sprite sheets says."""

    folder: Path
    size: int
    layout: str = "tiles"
    test: tuple[str, ...] = ()


def parse(source: str) -> Sheets:
    """Return the parts of a source ``sprites:FOLDER?size=S``.

    Raises:
        UserError: If an option is unknown, missing, given twice, or has a value that it cannot
            have.
    """
    place, _, query = source.removeprefix(PREFIX).rpartition("?")
    pairs = parse_qsl(query, keep_blank_values=True) if place else []
    options = dict(pairs)
    for name in options:
        if name not in ("size", "layout", "test"):
            raise UserError(
                f"{source} has an option {name!r}{did_you_mean(name, ['size', 'layout', 'test'])}"
            )
    if len(options) < len(pairs):
        raise UserError(f"{source} has an option twice; leave one of them out")
    size = options.get("size", "")
    if not (size.isascii() and size.isdigit() and int(size[:9]) > 0 and len(size) < 9):
        raise UserError(
            f"{source} has to say how large an image is; write sprites:FOLDER?size=S, with the "
            "side S in pixels"
        )
    layout = options.get("layout", "tiles")
    if layout not in LAYOUTS:
        raise UserError(f"{source} has the layout {layout!r}{did_you_mean(layout, LAYOUTS)}")
    test = tuple(filter(None, options.get("test", "").split(",")))
    return Sheets(path_of(place), int(size), layout, test)


def read_sprites(source: str, split: str, conversions: Conversions, note: Note) -> PictureSet:
    """Return the images of a split of sprite sheets; see the documentation of this file.

    Args:
        source: As ``sprites:FOLDER?size=S``.
        split: ``train``, ``test`` if the source names sheets of it, or ``all``.
        conversions: The counts of conversions, which are added to.
        note: Called with a line about files that are left out.

    Raises:
        UserError: If there is no such folder or split, the labels do not fit the sheets, or a
            sheet cannot be cut into such images.
    """
    sheets = parse(source)
    if not sheets.folder.is_dir():
        raise UserError(f"there is no folder {sheets.folder}; write sprites:FOLDER?size=S")
    files, others = partition(sheets.folder, ENDINGS)
    if not files:
        raise UserError(f"{sheets.folder} holds no image ({', '.join(ENDINGS)}); name another")
    tables = [path for path in others if path.suffix.lower() == ".json" and path.is_file()]
    if len(tables) > 1:
        raise UserError(
            f"{sheets.folder} holds several JSON files, {tables[0].name} and {tables[1].name}; "
            "leave the one with the labels"
        )
    rest = [path for path in others if path not in tables]
    note_left_out(sheets.folder, [*files, *tables], rest, note)
    files.sort(key=lambda file: natural(str(file)))
    chosen = _choose(source, sheets, files, split)
    classes, labels = _read_labels(tables[0]) if tables else (None, None)
    return PictureSet(_cut(chosen, sheets, labels, conversions), classes)


def _choose(source: str, sheets: Sheets, files: list[Path], split: str) -> list[Path]:
    """Return the sheets of a split."""
    if not sheets.test:
        check_no_splits(source, split)
        return files
    for name in sheets.test:
        if not any(name in _names(file) for file in files):
            raise UserError(f"{sheets.folder} has no sheet {name!r}; correct test={name}")
    wanted = check_split_name(source, split, ("train", "test"))
    splits = ("test" if {*_names(file)} & {*sheets.test} else "train" for file in files)
    chosen = [file for file, own in zip(files, splits, strict=True) if wanted in (ALL, own)]
    if not chosen:
        raise UserError(f"{source} leaves no sheet for the split {split}; name fewer in test=")
    return chosen


def _names(file: Path) -> tuple[str, str]:
    """Return the two names of a sheet: its whole stem, and what follows the last underscore."""
    return file.stem, file.stem.rpartition("_")[2]


def _read_labels(path: Path) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    with explained(f"cannot read {path} as JSON"), open_text(path) as file:
        content = json.load(file)
    form = (
        f'{path} is no file of labels; it has to be an object such as {{"class_names": ["cat"], '
        '"labels": {"0": [0, 0]}}'
    )
    if not isinstance(content, dict):
        raise UserError(form)
    classes, labels = content.get("class_names"), content.get("labels")
    if not isinstance(classes, list) or not isinstance(labels, dict):
        raise UserError(form)
    if not all(isinstance(name, str) for name in classes) or not all(
        isinstance(row, list) and all(type(label) is int for label in row)
        for row in labels.values()
    ):
        raise UserError(form)
    return tuple(classes), labels


def _cut(
    files: list[Path],
    sheets: Sheets,
    labels: dict[str, list[int]] | None,
    conversions: Conversions,
) -> Iterator[Picture]:
    for file in files:
        images, spare = _images(file, sheets, decode_file(file, conversions))
        own: list[int] | list[None] = [None] * len(images)
        if labels is not None:
            named = next((labels[name] for name in _names(file) if name in labels), None)
            if named is None or not 0 <= len(images) - len(named) <= spare:
                count = 0 if named is None else len(named)
                raise UserError(
                    f"{file} has {len(images)} images, and the JSON file in its folder {count} "
                    "labels for it; correct the labels or the size"
                )
            own = named
        for number, (pixels, label) in enumerate(zip(images, own, strict=False), 1):
            yield Picture(f"number {number} of {file}", pixels, label)


def _images(file: Path, sheets: Sheets, pixels: Pixels) -> tuple[Pixels, int]:
    """Return the images of a sheet, (N, S, S, C), and how many of the last ones may be empty."""
    size = sheets.size
    height, width, channels = pixels.shape
    if sheets.layout == "rows":
        if width != size * size:
            raise UserError(
                f"a row of {file} has {width} pixels, and not {size} x {size}; correct the size, "
                "or leave out layout=rows"
            )
        return pixels.reshape(height, size, size, channels), 0
    if height % size or width % size:
        rows = "; or add layout=rows" if width == size * size else ""
        raise UserError(
            f"{file} has {width} x {height} pixels, which cannot be cut into tiles of {size} x "
            f"{size}; correct the size{rows}"
        )
    tiles = pixels.reshape(height // size, size, width // size, size, channels).swapaxes(1, 2)
    return tiles.reshape(-1, size, size, channels), width // size - 1

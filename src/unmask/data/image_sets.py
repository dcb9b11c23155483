"""What the readers of image sets share: pictures with labels, splits, and the order of names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from unmask.data.image_files import Pixels
from unmask.errors import UserError

SPLITS = {
    "train": "train",
    "test": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
}
"""Splits by the names of their folders, in lower case."""
ALL = "all"
"""The split that stands for all of them."""
HELD_OUT = "test or all"
"""The split ``test``, or where there is none ``validation``; of a source without splits all."""
FIELD, LABEL_FIELD = "image", "label"
"""The usual names of the columns of a table."""


class Picture(NamedTuple):
    """One image of a set: its name for messages, its pixels, and the index or name of its class."""

    name: str
    pixels: Pixels
    label: int | str | None = None


class PictureSet(NamedTuple):
    """The images of a source, read one at a time.

    Args:
        pictures: The images, in order.
        classes: The names of all classes; None if they follow from the labels.
    """

    pictures: Iterator[Picture]
    classes: tuple[str, ...] | None = None


def choose_files(
    source: str, files: list[Path], split: str, split_of: Callable[[Path], str | None]
) -> list[Path]:
    """Return the files of a split.

    Args:
        source: Of the files, for messages.
        files: All files of the source.
        split: The split; ``train`` and ``all`` are every file if the source has no splits.
        split_of: Returns the split of a file, None for a file outside of all splits.

    Raises:
        UserError: If there is no such split, or some files are in splits and others are not.
    """
    splits = [split_of(file) for file in files]
    found = {name for name in splits if name is not None}
    if not found:
        check_no_splits(source, split)
        return files
    if None in splits:
        raise UserError(
            f"{source} has the split {min(found)}, and images outside of it, such as "
            f"{files[splits.index(None)]}; move every image into the folder of a split, or rename "
            "the folder if it is a class"
        )
    wanted = check_split_name(source, split, found)
    return [file for file, name in zip(files, splits, strict=True) if wanted in (ALL, name)]


def check_split_name(source: str, split: str, known: Iterable[str]) -> str:
    """Return the name of a split as the keys of ``SPLITS`` spell it, or ``all``.

    Raises:
        UserError: If the split is not among the known ones.
    """
    wanted = SPLITS.get(split, split)
    if split == HELD_OUT:
        wanted = "validation" if "test" not in {*known} and "validation" in {*known} else "test"
    if wanted != ALL and wanted not in {*known}:
        choices = ", ".join([*sorted(known), ALL])
        raise UserError(f"{source} has no split {wanted!r}; choose one of {choices}")
    return wanted


def check_no_splits(source: str, split: str) -> None:
    """Raise a UserError for a split that would have no effect because the source has none."""
    if split not in ("train", ALL, HELD_OUT):
        raise UserError(f"{source} has no splits, so there is no {split!r}; leave out --split")


def check_no_columns(source: str, field: str, label_field: str = LABEL_FIELD) -> None:
    """Raise a UserError for a field that would have no effect because the source has no columns."""
    for option, name, usual in (
        ("--field", field, FIELD),
        ("--label-field", label_field, LABEL_FIELD),
    ):
        if name != usual:
            raise UserError(f"{source} has no columns; leave out {option} {name}")


def natural(name: str) -> tuple[list[tuple[str, int]], str]:
    """Return a key that sorts names with the numbers in them by value: 2 before 10."""
    parts = re.findall(r"([^0-9]*)([0-9]*)", name.casefold())
    # Python refuses to read a number of thousands of digits.
    key = [(text, int(digits[:18] or -1)) for text, digits in parts]
    return key, name

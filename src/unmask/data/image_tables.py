"""Images in the columns of parquet files and hub data sets.

A cell holds the content of an image file, as bytes or as a record of ``bytes`` and ``path``, or it
is an image of Pillow. The labels are whole numbers or names; the names that ``datasets`` keeps for
numbers (``ClassLabel``) are used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from unmask.data.image_files import Conversions, Pixels, decode_bytes, decode_file, to_pixels
from unmask.data.image_sets import (
    FIELD,
    HELD_OUT,
    LABEL_FIELD,
    SPLITS,
    Picture,
    PictureSet,
    check_no_splits,
    choose_files,
)
from unmask.data.sources import Note, open_hub
from unmask.data.tables import Row, read_table
from unmask.data.text_files import check_ordinary, open_bytes
from unmask.errors import UserError, explained, optional_library

ENDINGS = (".parquet", ".pq")
"""Endings of the tables that can hold images."""
_IN_NAME = re.compile(rf"({'|'.join(SPLITS)})[-_.]", re.IGNORECASE)


class Columns(NamedTuple):
    """The columns of images and labels; the usual name of the labels may be absent."""

    image: str = FIELD
    label: str = LABEL_FIELD


def read_parquet(
    path: Path, split: str, columns: Columns, conversions: Conversions, note: Note
) -> PictureSet:
    """Return the images of a parquet file, which has no splits.

    Args:
        path: The file.
        split: ``train`` or ``all``.
        columns: The columns to read.
        conversions: The counts of conversions, which are added to.
        note: Called with a line if there are no labels.

    Raises:
        UserError: If a split is given, the file is damaged, or it has no such columns.
    """
    check_no_splits(str(path), split)
    return _read_files(str(path), [path], columns, conversions, note)


def read_parquet_folder(
    folder: Path,
    files: list[Path],
    split: str,
    columns: Columns,
    conversions: Conversions,
    note: Note,
) -> PictureSet:
    """Return the images of a split of a folder of parquet files.

    The split is told by the name of a sub-folder, or by the beginning of a file name, as in
    ``train-00000-of-00001.parquet``. The other arguments are those of ``read_parquet``.

    Raises:
        UserError: As ``read_parquet``, or if there is no such split.
    """

    def split_of(file: Path) -> str | None:
        *folders, name = file.relative_to(folder).parts
        own = _IN_NAME.match(name)
        names = [own[1]] if own else folders
        return next((SPLITS[part.lower()] for part in names if part.lower() in SPLITS), None)

    chosen = choose_files(str(folder), files, split, split_of)
    return _read_files(str(folder), chosen, columns, conversions, note)


def read_hub_images(
    source: str, split: str, columns: Columns, conversions: Conversions, note: Note
) -> PictureSet:
    """Return the images of a split of a hub data set; the arguments are those of ``read_parquet``.

    Raises:
        UserError: If it cannot be fetched, or has no such columns.
    """
    rows = open_hub(source, "test" if split == HELD_OUT else split)
    with_labels = _check(source, rows.column_names, columns, note)
    wanted = [columns.image, *([columns.label] if with_labels else [])]
    with optional_library("a hub data set", "images"):
        from datasets import ClassLabel, Image
    features = rows.features
    if isinstance(features[columns.image], Image):
        # The content of the file, so that our own decoder sees it.
        rows = rows.cast_column(columns.image, Image(decode=False))
    label = features[columns.label] if with_labels else None
    classes = tuple(label.names) if isinstance(label, ClassLabel) else None
    rows = rows.select_columns(wanted)
    return PictureSet(_pictures(source, rows, columns, Path(), conversions), classes)


def _read_files(
    source: str, files: list[Path], columns: Columns, conversions: Conversions, note: Note
) -> PictureSet:
    classes: tuple[str, ...] | None = None
    with_labels = True
    for path in files:
        names, own = _schema(path, columns.label)
        with_labels = _check(str(path), names, columns, note)
        if path != files[0] and own != classes:
            raise UserError(
                f"the classes of {path} are not those of {files[0]}; read one of them at a time"
            )
        classes = own
    wanted = [columns.image, *([columns.label] if with_labels else [])]

    def pictures() -> Iterator[Picture]:
        for path in files:
            rows = read_table(path, wanted)
            yield from _pictures(str(path), rows, columns, path.parent, conversions)

    return PictureSet(pictures(), classes)


def _schema(path: Path, label: str) -> tuple[list[str], tuple[str, ...] | None]:
    """Return the columns of a parquet file, and the class names that ``datasets`` keeps in it."""
    with optional_library("a parquet file", "images"):
        from pyarrow import parquet
    with explained(f"cannot read {path} as parquet"), open_bytes(path) as file:
        schema = parquet.read_schema(file)
    try:
        content = json.loads((schema.metadata or {})[b"huggingface"])
        names = content["info"]["features"][label]["names"]
    except (ValueError, LookupError, TypeError):
        return schema.names, None
    # Older versions keep an object of names by number.
    names = [*names.values()] if isinstance(names, dict) else names
    return schema.names, tuple(map(str, names)) if isinstance(names, list) else None


def _check(source: str, names: Iterable[str], columns: Columns, note: Note) -> bool:
    """Check the columns of a table, and return whether it has labels."""
    known = list(names)
    listed = ", ".join(known)
    if columns.image not in known:
        raise UserError(
            f"{source} has no column {columns.image!r} of images; choose one with --field, of "
            f"{listed}"
        )
    if columns.label in known:
        return True
    if columns.label != LABEL_FIELD:
        raise UserError(
            f"{source} has no column {columns.label!r} of labels; choose one with --label-field, "
            f"of {listed}"
        )
    if len(known) > 1:
        note(
            f"{source} has no column {LABEL_FIELD!r}, so its images have no labels; --label-field "
            f"chooses another, of {listed}"
        )
    return False


def _pictures(
    source: str, rows: Iterable[Row], columns: Columns, folder: Path, conversions: Conversions
) -> Iterator[Picture]:
    for number, row in enumerate(rows, 1):
        name = f"in row {number} of {source}"
        pixels = _decode(row[columns.image], name, folder, conversions)
        label = row.get(columns.label)
        label = str(label) if isinstance(label, bool) else label
        if label is not None and type(label) not in (int, str):
            raise UserError(
                f"the label {name} is {label!r}, neither a whole number nor a name; choose another "
                "column with --label-field"
            )
        # Data sets for competitions have -1 in place of labels that are kept secret.
        yield Picture(name, pixels, None if label in (-1, "") else label)  # type: ignore[arg-type]


def _decode(cell: Any, name: str, folder: Path, conversions: Conversions) -> Pixels:
    path = None
    if isinstance(cell, dict):
        cell, path = cell.get("bytes"), cell.get("path")
    if isinstance(cell, bytes | bytearray | memoryview):
        return decode_bytes(bytes(cell), name, conversions)
    if cell is None and isinstance(path, str):
        place = folder / path
        check_ordinary(place)
        if not place.is_file():
            raise UserError(
                f"the image {name} is the file {place}, which does not exist; fetch it, or choose "
                "another column with --field"
            )
        return decode_file(place, conversions)
    with optional_library("an image", "images"):
        from PIL.Image import Image
    if isinstance(cell, Image):
        return to_pixels(cell, name, conversions)
    what = "empty" if cell is None else f"a {type(cell).__name__}"
    raise UserError(
        f"the image {name} is {what}, not the content of an image file; take the row out, or "
        "choose another column with --field"
    )

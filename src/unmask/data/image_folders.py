"""Folders of image files: a class per sub-folder, or labels in a CSV file.

Sub-folders ``train``, ``test`` and ``validation`` (``valid``, ``val``) are splits; each has the
layout of a folder without splits. Classes are those of all splits together, so a label has one
meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from unmask.data.image_files import Conversions, decode_file
from unmask.data.image_sets import (
    LABEL_FIELD,
    SPLITS,
    Picture,
    PictureSet,
    choose_files,
    natural,
)
from unmask.data.sources import Note, note_left_out
from unmask.data.tables import read_table
from unmask.errors import UserError

TABLES = ("labels.csv", "labels.tsv")
"""Names of a table of labels. Its columns are ``file``, a path from its folder, and ``label``."""


def read_folder(
    folder: Path,
    files: list[Path],
    others: list[Path],
    split: str,
    label_field: str,
    conversions: Conversions,
    note: Note,
) -> PictureSet:
    """Return the images of a split of a folder.

    Args:
        folder: The folder.
        files: Its image files.
        others: Its other files.
        split: The split; see ``choose_files``.
        label_field: The column of the label in the tables of labels.
        conversions: The counts of conversions, which are added to.
        note: Called with a line about the other files.

    Raises:
        UserError: If there is no such split, only some of its images have a class, or a table of
            labels does not fit its folder. An image that is refused raises when it is read.
    """

    def split_of(file: Path) -> str | None:
        parts = file.relative_to(folder).parts
        return SPLITS.get(parts[0].lower()) if len(parts) > 1 else None

    def root_of(file: Path) -> Path:
        return folder / file.relative_to(folder).parts[0] if split_of(file) else folder

    chosen = choose_files(str(folder), files, split, split_of)
    roots = [folder, *sorted({root_of(file) for file in files} - {folder})]
    tables = [root / name for root in roots for name in TABLES if (root / name).is_file()]
    if label_field != LABEL_FIELD and not tables:
        raise UserError(
            f"{folder} has no table of labels, {' or '.join(TABLES)}; leave out --label-field "
            f"{label_field}"
        )
    note_left_out(folder, [*files, *tables], [path for path in others if path not in tables], note)
    labels = _read_labels(tables, {*files}, label_field)
    for table in tables:
        _check_complete(table, (f for f in chosen if table.parent in (folder, root_of(f))), labels)
    labels = {
        file: name for file in files if (name := labels.get(file) or _class_of(file, root_of))
    }
    missed = next((file for file in chosen if file not in labels), None)
    if missed is not None and any(file in labels for file in chosen):
        raise UserError(
            f"{folder} holds images in sub-folders, which are classes, and images outside of them, "
            f"such as {missed}; move each image into the folder of its class"
        )
    pictures = (
        Picture(str(file), decode_file(file, conversions), labels.get(file)) for file in chosen
    )
    return PictureSet(pictures, tuple(sorted({*labels.values()}, key=natural)))


def _class_of(file: Path, root_of: Callable[[Path], Path]) -> str | None:
    """Return the name of the first sub-folder that contains a file; None if there is none."""
    parts = file.relative_to(root_of(file)).parts
    return parts[0] if len(parts) > 1 else None


def _check_complete(table: Path, files: Iterator[Path], labels: dict[Path, str]) -> None:
    missed = [file for file in files if file not in labels]
    if missed:
        more = f" and {len(missed) - 1} more" if len(missed) > 1 else ""
        raise UserError(
            f"{table} has no label for {missed[0]}{more}; add it, or take the image out"
        )


def _read_labels(tables: list[Path], files: set[Path], label_field: str) -> dict[Path, str]:
    """Return the labels of files that tables name."""
    labels: dict[Path, str] = {}
    for table in tables:
        for number, row in enumerate(read_table(table), 1):
            absent = [name for name in ("file", label_field) if name not in row]
            if absent:
                raise UserError(
                    f"{table} has no column {absent[0]!r}; its first line has to name the columns, "
                    f"'file' and {label_field!r}, and names {', '.join(row)}"
                )
            name, label = (str(row[key] or "").strip() for key in ("file", label_field))
            if not name or not label:
                raise UserError(f"row {number} of {table} has an empty cell; fill in both columns")
            file = table.parent / name
            if file not in files:
                raise UserError(
                    f"row {number} of {table} names {name}, which is no image in {table.parent}; "
                    "correct the name, or take the row out"
                )
            if file in labels:
                raise UserError(f"{table} names {name} a second time; take one of the rows out")
            labels[file] = label
    return labels

"""Where data come from: files, folders of them and hub data sets, opened as rows of tables.

A source is a text, JSON, CSV, TSV, parquet or FASTA file, compressed or not, a folder of them, a
hub data set id, or ``pydoc``, the language reference that every Python carries.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from unmask.data import fasta
from unmask.data.tables import READERS, Row, read_table
from unmask.data.text_files import PACKED, check_ordinary, ending, read_lines
from unmask.errors import UserError, explained, is_unicode, optional_library

TEXTS = (".txt", ".text", ".md", ".rst", ".py", ".tokens")
KNOWN = (*TEXTS, *READERS, *fasta.ENDINGS)
"""Endings of the files that are read from a folder."""
Note = Callable[[str], None]
"""Called with a line about what is left out."""


def read_records(
    source: str,
    split: str = "train",
    columns: Sequence[str] | None = None,
    note: Note = warnings.warn,
) -> Iterator[Row]:
    """Yield the rows of a table, of all tables in a folder, or of a hub data set, in order.

    Args:
        source: A path or a hub data set id.
        split: The split of a hub data set.
        columns: The columns to read; None for all of them.
        note: Called with a line about files that are left out.

    Raises:
        UserError: If there is no such source, or it is not a table.
    """
    path = path_of(source)
    if os.path.isdir(path):
        for file in files_in(path, tuple(READERS), note):
            yield from read_table(file, columns)
    elif source == "pydoc" or (os.path.isfile(path) and ending(path) not in READERS):
        raise UserError(f"{source} is no table; name a JSON-lines, CSV, TSV or parquet file")
    else:
        yield from (
            read_table(path, columns) if os.path.isfile(path) else read_hub(source, split, columns)
        )


def labelled(source: str, field: str, note: Note = warnings.warn) -> Iterator[Row]:
    """Yield the texts of a file as rows with all their fields.

    Args:
        source: A table; a plain text, of which every line is a row; or a FASTA file, of which every
            record is a row with its header as ``name``.
        field: The column of the text, for tables; see ``check_field``.
        note: Called with a line about what is left out.

    Raises:
        UserError: If there is no such file, or it cannot be read.
    """
    check_field(field, source)
    path = path_of(source)
    if not os.path.isfile(path) or ending(path) in READERS:
        yield from read_records(source, note=note)
    elif ending(path) in fasta.ENDINGS:
        for name, sequence in fasta.read_sequences(path):
            yield {"name": name, field: "".join(sequence)}
    else:
        for line in read_lines(path):
            yield {field: line}
        note_plain(path, note)


def note_plain(path: Path, note: Note) -> None:
    """Note that a file was read as plain text, if its ending names another format."""
    kind = ending(path)
    if kind not in ("", *TEXTS):
        note(f"{path} is read as plain text, whatever {kind} stands for")


def path_of(source: str) -> Path:
    """Return the path that a source names, with ``~`` expanded.

    Raises:
        UserError: If the name is empty, or it is a pipe, a socket or a device.
    """
    if not source.strip():
        raise UserError("the name of the data is empty; give a file, a folder or a hub data set")
    # The name of a user that does not exist, as in ~nobody, is left unchanged and is not found.
    path = Path(os.path.expanduser(source))
    check_ordinary(path)
    return path


def _has_columns(source: str) -> bool:
    path = path_of(source)
    if os.path.isdir(path):
        return any(ending(file) in READERS for file in files_in(path, KNOWN))
    return ending(path) in READERS if os.path.isfile(path) else source != "pydoc"


def check_field(field: str, *sources: str) -> None:
    """Refuse a field that would have no effect because none of the sources has columns.

    Args:
        field: The column of the text; ``text`` is the default and always accepted.
        sources: Paths, hub data set ids or ``pydoc``.

    Raises:
        UserError: If another field is given and every source is plain text.
    """
    if field != "text" and not any(map(_has_columns, sources)):
        raise UserError(
            f"{sources[0]} is plain text, which has no columns; leave out --field {field}"
        )


def check_split(split: str, usual: str, source: str) -> None:
    """Refuse a split that would have no effect because the source is not a hub data set.

    Raises:
        UserError: If the split differs from the usual one and the source is local.
    """
    if split != usual and (source == "pydoc" or os.path.exists(path_of(source))):
        raise UserError(f"{source} is not a hub data set, so it has no splits; leave out --split")


def files_in(folder: Path, endings: tuple[str, ...], note: Note = lambda line: None) -> list[Path]:
    """Return the files with some endings in a folder and below it, and note the others."""
    files, others = partition(folder, endings)
    if not files:
        raise UserError(
            f"{folder} holds no file that ends in {', '.join(endings)} (or these + "
            f"{', '.join(PACKED)})"
        )
    note_left_out(folder, files, others, note)
    return files


def partition(folder: Path, endings: tuple[str, ...]) -> tuple[list[Path], list[Path]]:
    """Return the files with some endings in a folder and below it, and all others, sorted.

    Hidden files, links to folders and what is no ordinary file are among the others.
    """
    files: list[Path] = []
    others: list[Path] = []
    for path in sorted(_walk(folder)):
        wanted = ending(path) in endings and path.is_file() and not _is_hidden(path, folder)
        (files if wanted else others).append(path)
    return files, others


def note_left_out(folder: Path, files: list[Path], others: list[Path], note: Note) -> None:
    """Note how many files of a folder are not read, with the endings of the most common ones."""
    kinds = Counter(path.suffix or path.name for path in others)
    if kinds:
        names = ", ".join(name for name, _ in kinds.most_common(5))
        more = ", ..." if len(kinds) > 5 else ""
        total = len(files) + len(others)
        note(f"left out {len(others)} of {total} files in {folder}: {names}{more}")


def _is_hidden(path: Path, folder: Path) -> bool:
    """Return whether the name of a file, or of a folder that contains it, begins with a dot.

    Editors, version control and file systems keep their own files under such names.
    """
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise UserError(f"cannot read the folder {error.filename}: {error.strerror}") from error

    for place, folders, names in os.walk(folder, onerror=refuse):
        # Links to folders are not followed: they may form a circle.
        links = (name for name in folders if os.path.islink(os.path.join(place, name)))
        yield from (Path(place, name) for name in chain(names, links))


def read_hub(source: str, split: str, columns: Sequence[str] | None) -> Iterator[Row]:
    """Yield the rows of a split of a hub data set; ``name:config`` selects a configuration.

    Raises:
        UserError: If it cannot be fetched.
    """
    rows = open_hub(source, split)
    if columns is not None and not {*columns} - {*rows.column_names}:
        rows = rows.select_columns(list(columns))
    yield from rows


def open_hub(source: str, split: str) -> Any:
    """Return a split of a hub data set as a ``datasets.Dataset``.

    Raises:
        UserError: If it cannot be fetched, or the source is the name of a file or folder.
    """
    known = (*KNOWN, *PACKED)
    if source.startswith((".", "/", "~")) or Path(source).suffix.lower() in known:
        raise UserError(f"there is no file or folder {source}")
    datasets = _library()
    name, _, config = source.partition(":")
    lost = f"there is no file {name}, and no data set of that name could be fetched"
    with explained(lost):
        return datasets.load_dataset(name, config or None, split=split)


def without_text(number: int, source: object, field: str, row: Row, remedy: str) -> UserError:
    """Return the error for a row that has no text in a field.

    Args:
        number: Of the row, from 1.
        source: The source of the row.
        field: The field that should hold the text.
        row: The row.
        remedy: What to do if other fields hold text.
    """
    names = ", ".join(key for key, value in row.items() if isinstance(value, str))
    return UserError(
        f"row {number} of {source} has no text in the field {field!r}"
        + (f"; its text fields: {names}; {remedy}" if names else " nor in any other; give it one")
    )


def check_whole(text: str, number: int, source: object) -> None:
    """Raise a UserError for a text with half a character (a surrogate), which JSON can encode.

    Args:
        text: The text.
        number: Of its row, from 1.
        source: The source of the row.
    """
    if not is_unicode(text):
        raise UserError(
            f"row {number} of {source} holds half a character (a surrogate); give valid text"
        )


def check_apart(source: str, out: Path) -> None:
    """Raise a UserError if an output path is the data or lies inside the folder of the data.

    Args:
        source: The source of the data.
        out: The file or folder to write.
    """
    place = Path(os.path.expanduser(source))
    if os.path.isdir(place) and out.resolve().is_relative_to(place.resolve()):
        raise UserError(
            f"{out} would be in the folder of the data, {source}, and be read as data the next "
            "time; choose an --out outside of it"
        )
    if os.path.exists(place) and os.path.exists(out) and os.path.samefile(place, out):
        raise UserError("--out is the data itself; choose another name")


def _library() -> Any:
    with optional_library("a hub data set", "train"):
        import datasets
    # Errors are reported once, as a ``UserError``.
    quiet_datasets(datasets)
    return datasets


def quiet_datasets(datasets: Any) -> None:
    """Switch off the progress bars and log messages of the library ``datasets``."""
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)

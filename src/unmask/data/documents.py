"""From files to documents, which are read as often as needed and never held all at once.

A source is a text, JSON, CSV, TSV, parquet or FASTA file, compressed or not, a folder of them, a
hub data set id, or ``pydoc``, the language reference that every Python carries. A text file is one
document, and so is every row of a table and every record of a FASTA file.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from unmask.data import fasta
from unmask.data.tables import READERS, Row, read_table
from unmask.data.text_files import (
    PACKED,
    PIECE,
    check_ordinary,
    ending,
    read_lines,
    read_pieces,
)
from unmask.errors import UserError, is_unicode

TEXTS = (".txt", ".text", ".md", ".rst", ".py", ".tokens")
KNOWN = (*TEXTS, *READERS, *fasta.ENDINGS)
"""How the names of the files end that are taken from a folder."""
Note = Callable[[str], None]
"""Called with a line about what is left out."""


class Piece(NamedTuple):
    """Part of a document: its characters, and whether the document ends with them."""

    text: str
    last: bool


@dataclasses.dataclass
class Documents:
    """The documents of a source, in order.

    Args:
        source: A path, a hub data set id, or ``pydoc``.
        field: The column that holds the text, for tables and hub data sets; see ``check_field``.
        split: The split of a hub data set; see ``check_split``.
        note: Called with a line about what is left out, the first time that it is.
        by_line: Take every line of a text file as a document.
    """

    source: str
    field: str = "text"
    split: str = "train"
    note: Note = warnings.warn
    by_line: bool = False
    _noted: set[str] = dataclasses.field(default_factory=set)

    def pieces(self) -> Iterator[Piece]:
        """Yield all documents piece by piece, each of at most ``PIECE`` characters.

        Raises:
            UserError: If there is nothing there, a file is binary or of an unknown encoding, a row
                has no text, or no text is left.
        """
        blank = True
        for piece in chain.from_iterable(map(_cut, self._all())):
            blank = blank and not piece.text.strip()
            yield piece
        if blank:
            raise UserError(f"{self.source} holds no text")

    def _all(self) -> Iterator[Piece]:
        path = _path(self.source)
        if self.source == "pydoc" and not os.path.exists(path):
            yield from map(_whole, _pydoc())
        elif os.path.isdir(path):
            for file in _files(path, KNOWN, self._say):
                yield from self._file(file)
        elif os.path.isfile(path):
            yield from self._file(path)
        else:
            rows = _hub(self.source, self.split, [self.field])
            yield from map(_whole, self._column(rows, self.source))

    def _file(self, path: Path) -> Iterator[Piece]:
        if ending(path) in READERS:
            rows = read_table(path, [self.field])
            yield from map(_whole, self._column(rows, str(path)))
        elif ending(path) in fasta.ENDINGS:
            yield from self._sequences(path)
        elif self.by_line:
            lines: Iterable[Row] = ({self.field: line} for line in read_lines(path))
            yield from map(_whole, self._column(lines, str(path)))
            _note_plain(path, self._say)
        else:
            yield from _with_last(read_pieces(path))
            _note_plain(path, self._say)

    def _sequences(self, path: Path) -> Iterator[Piece]:
        total = empty = 0
        for _, sequence in fasta.read_sequences(path):
            total += 1
            lengths = 0
            for piece in _with_last(_in_pieces(sequence)):
                lengths += len(piece.text)
                if lengths:
                    yield piece
            empty += not lengths
        self._say_empty(empty, total, "records", path)

    def _column(self, rows: Iterable[Row], source: str) -> Iterator[str]:
        total = empty = 0
        for total, row in enumerate(rows, 1):
            text = row.get(self.field, 0)
            if text is None or text == "" or (isinstance(text, str) and not text.strip()):
                empty += 1
                continue
            if not isinstance(text, str):
                raise without_text(total, source, self.field, row, "choose one with --field")
            check_whole(text, total, source)
            yield text
        self._say_empty(empty, total, "rows", source)

    def _say_empty(self, empty: int, total: int, what: str, source: object) -> None:
        if empty:
            self._say(f"left out {empty} of {total} {what} of {source}, which are empty")

    def _say(self, line: str) -> None:
        if line not in self._noted:
            self._noted.add(line)
            self.note(line)


def read_documents(
    source: str, field: str = "text", split: str = "train", note: Note = warnings.warn
) -> list[str]:
    """Return the documents of a source, in order; the arguments are those of ``Documents``.

    Raises:
        UserError: As ``Documents.pieces``.
    """
    return list(whole_documents(Documents(source, field, split, note).pieces()))


def whole_documents(pieces: Iterable[Piece]) -> Iterator[str]:
    """Yield the documents that pieces make up."""
    parts: list[str] = []
    for text, last in pieces:
        parts.append(text)
        if last:
            yield "".join(parts)
            parts.clear()


def pieces_of(documents: Iterable[str]) -> Iterator[Piece]:
    """Yield documents as pieces, each whole."""
    return map(_whole, documents)


def _whole(document: str) -> Piece:
    return Piece(document, last=True)


def _cut(piece: Piece) -> Iterator[Piece]:
    """Yield what a piece holds in pieces of at most ``PIECE`` characters."""
    text, last = piece
    for begin in range(0, max(len(text), 1), PIECE):
        end = begin + PIECE
        yield Piece(text[begin:end], last and end >= len(text))


def _with_last(parts: Iterable[str]) -> Iterator[Piece]:
    """Yield the parts of one document, the last of them marked; an empty one if there are none."""
    held = ""
    for part in parts:
        if held:
            yield Piece(held, last=False)
        held = part
    yield Piece(held, last=True)


def _in_pieces(lines: Iterable[str]) -> Iterator[str]:
    """Join lines until they make a piece."""
    held: list[str] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= PIECE:
            yield "".join(held)
            held, size = [], 0
    yield "".join(held)


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
        columns: What is wanted of a row; None for everything.
        note: Called with a line about files that are left out.

    Raises:
        UserError: If there is nothing there, or it is no table.
    """
    path = _path(source)
    if os.path.isdir(path):
        for file in _files(path, tuple(READERS), note):
            yield from read_table(file, columns)
    elif source == "pydoc" or (os.path.isfile(path) and ending(path) not in READERS):
        raise UserError(f"{source} is no table; name a JSON-lines, CSV, TSV or parquet file")
    else:
        yield from (
            read_table(path, columns) if os.path.isfile(path) else _hub(source, split, columns)
        )


def labelled(source: str, field: str, note: Note = warnings.warn) -> Iterator[Row]:
    """Yield the texts of a file as rows with all their fields.

    Args:
        source: A path: of a plain text every line is a row, of a FASTA file every record, with its
            header as ``name``; or a table.
        field: The column of the text, for tables; see ``check_field``.
        note: Called with a line about what is left out.

    Raises:
        UserError: If there is no such file, or it cannot be read.
    """
    check_field(field, source)
    path = _path(source)
    if not os.path.isfile(path) or ending(path) in READERS:
        yield from read_records(source, note=note)
    elif ending(path) in fasta.ENDINGS:
        for name, sequence in fasta.read_sequences(path):
            yield {"name": name, field: "".join(sequence)}
    else:
        for line in read_lines(path):
            yield {field: line}
        _note_plain(path, note)


def _note_plain(path: Path, note: Note) -> None:
    """Say that a file was read as plain text, if its name says something else."""
    kind = ending(path)
    if kind not in ("", *TEXTS):
        note(f"{path} is read as plain text, whatever {kind} stands for")


def _path(source: str) -> Path:
    if not source.strip():
        raise UserError("the name of the data is empty; give a file, a folder or a hub data set")
    # Of a user that does not exist, as in ~nobody, the name stays as it is and is not found.
    path = Path(os.path.expanduser(source))
    check_ordinary(path)
    return path


def check_field(field: str, *sources: str) -> None:
    """Refuse a field that would have no effect, since none of the sources has columns.

    Args:
        field: As ``read_documents`` takes it; ``text`` is what nobody has to name.
        sources: Paths, hub data set ids or ``pydoc``.

    Raises:
        UserError: If the field was named and every source is plain text.
    """
    if field != "text" and not any(map(_has_columns, sources)):
        raise UserError(
            f"{sources[0]} is plain text, which has no columns; leave out --field {field}"
        )


def check_split(split: str, usual: str, source: str) -> None:
    """Refuse a split that would have no effect, since a source is no hub data set.

    Raises:
        UserError: If another split than the usual one was named and the source is a local one.
    """
    if split != usual and (source == "pydoc" or os.path.exists(_path(source))):
        raise UserError(f"{source} is no hub data set, so it has no splits; leave out --split")


def _has_columns(source: str) -> bool:
    path = _path(source)
    if os.path.isdir(path):
        return any(ending(file) in READERS for file in _files(path, KNOWN))
    return ending(path) in READERS if os.path.isfile(path) else source != "pydoc"


def joined(documents: Sequence[str]) -> str:
    """Return documents as one text to be scored: one as it is, several each ending its line."""
    if len(documents) == 1:
        return documents[0]
    return "".join(text if text.endswith("\n") else text + "\n" for text in documents)


def _pydoc() -> Iterator[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise UserError("this Python was built without pydoc's topics; pass a text file") from error
    yield from (topics[name] for name in sorted(topics))


def _files(folder: Path, endings: tuple[str, ...], note: Note = lambda line: None) -> list[Path]:
    """Return the files in a folder and in those below it that end in one way, and note the rest."""
    found = sorted(_walk(folder))
    files = [
        path
        for path in found
        if ending(path) in endings and path.is_file() and not _is_hidden(path, folder)
    ]
    others = Counter(path.suffix or path.name for path in found) - Counter(
        path.suffix or path.name for path in files
    )
    if not files:
        raise UserError(
            f"{folder} holds no file that ends in {', '.join(endings)} (or these + "
            f"{', '.join(PACKED)})"
        )
    if others:
        names = ", ".join(name for name, _ in others.most_common(5))
        more = ", ..." if len(others) > 5 else ""
        note(f"left out {others.total()} of {len(found)} files in {folder}: {names}{more}")
    return files


def _is_hidden(path: Path, folder: Path) -> bool:
    """Return whether a file, or a folder that it is in, has a name that programs do not show.

    Such are the copies and notes of editors, versions and file systems, not a user's texts.
    """
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise UserError(f"cannot read the folder {error.filename}: {error.strerror}") from error

    for place, folders, names in os.walk(folder, onerror=refuse):
        # A link to a folder is not followed, so that there is no end of it.
        links = (name for name in folders if os.path.islink(os.path.join(place, name)))
        yield from (Path(place, name) for name in chain(names, links))


def _hub(source: str, split: str, columns: Sequence[str] | None) -> Iterator[Row]:
    known = (*KNOWN, *PACKED)
    if source.startswith((".", "/", "~")) or Path(source).suffix.lower() in known:
        raise UserError(f"there is no file or folder {source}")
    datasets = _library()
    name, _, config = source.partition(":")
    try:
        rows = datasets.load_dataset(name, config or None, split=split)
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "it holds no rows")
        raise UserError(
            f"there is no file {name}, and no data set of that name could be fetched: {reason}"
        ) from error
    if columns is not None and not {*columns} - {*rows.column_names}:
        rows = rows.select_columns(list(columns))
    yield from rows


def without_text(number: int, source: object, field: str, row: Row, remedy: str) -> UserError:
    """Return the error for a row that has no text in a field.

    Args:
        number: Of the row, from 1.
        source: Where it stands.
        field: The field that was asked for.
        row: What the row holds.
        remedy: What to do where other fields hold text.
    """
    names = ", ".join(key for key, value in row.items() if isinstance(value, str))
    return UserError(
        f"row {number} of {source} has no text in the field {field!r}"
        + (f"; its text fields: {names}; {remedy}" if names else " nor in any other; give it one")
    )


def check_whole(text: str, number: int, source: object) -> None:
    """Raise a UserError for a text with half a character in it, which JSON can spell.

    Args:
        text: The text.
        number: Of its row, from 1.
        source: Where that stands.
    """
    if not is_unicode(text):
        raise UserError(
            f"row {number} of {source} holds half a character (a surrogate); give valid text"
        )


def check_apart(source: str, out: Path) -> None:
    """Raise a UserError for a file or folder to be written that is the data, or lies among them.

    Args:
        source: Where the data come from.
        out: What is to be written.
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
    try:
        import datasets
    except ImportError as error:
        raise UserError("hub data sets need: pip install 'unmask[train]'") from error
    # What is wrong with a data set is said once, by us.
    quiet_datasets(datasets)
    return datasets


def quiet_datasets(datasets: Any) -> None:
    """Switch off the progress bars and log messages of the library ``datasets``."""
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)

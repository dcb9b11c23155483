"""Rows of tables: JSON lines, a JSON array, CSV, TSV and parquet, read one row at a time.

No types are inferred: a cell of a CSV file is its text, whatever the other cells are. No copy of a
table is kept.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from unmask.data.text_files import ending, open_bytes, open_text
from unmask.errors import UserError, explained, optional_library

Row = dict[str, object]


def read_table(path: Path, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Yield the rows of a table.

    Args:
        path: A file whose name ends as one of ``READERS``, compressed or not.
        columns: The columns to read, None for all; other columns may be missing in the rows.

    Raises:
        UserError: If it cannot be read, or is damaged.
    """
    yield from READERS[ending(path)](path, columns)


def _damaged(path: Path, reason: object) -> UserError:
    return UserError(f"{_unreadable(path)}: {reason}")


def _unreadable(path: Path) -> str:
    return f"cannot read {path} as {ending(path)[1:]}"


def _json_lines(path: Path, _columns: Sequence[str] | None) -> Iterator[Row]:
    with open_text(path, newline=None) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            if number == 1 and line.lstrip().startswith("["):
                yield from _array(path)
                return
            yield _object(path, _parsed(path, line, f": line {number}"), f"line {number}")


def _json(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    """Read an array of objects, one object, or objects line by line."""
    with open_text(path, newline=None) as file:
        first = next((line for line in file if line.strip()), "")
    try:
        one_a_line = isinstance(json.loads(first), dict)
    except ValueError:
        one_a_line = False
    yield from _json_lines(path, columns) if one_a_line else _array(path)


def _array(path: Path) -> Iterator[Row]:
    with open_text(path) as file:
        content = _parsed(path, file.read(), "")
    rows = content if isinstance(content, list) else [content]
    for number, row in enumerate(rows, 1):
        yield _object(path, row, f"row {number}")


def _parsed(path: Path, text: str, where: str) -> object:
    kinds = (ValueError, RecursionError)
    with explained(f"{_unreadable(path)}{where}", kinds=kinds):
        return json.loads(text)


def _object(path: Path, row: object, where: str) -> Row:
    if not isinstance(row, dict):
        raise _damaged(path, f'{where} is no object with named fields, such as {{"text": ...}}')
    return row


def _csv(path: Path, _columns: Sequence[str] | None) -> Iterator[Row]:
    yield from _delimited(path, delimiter=",", strict=True)


_QUOTED: dict[str, Any] = {"delimiter": "\t", "strict": True}
_PLAIN = _QUOTED | {"quoting": csv.QUOTE_NONE}


def _tsv(path: Path, _columns: Sequence[str] | None) -> Iterator[Row]:
    yield from _delimited(path, **(_QUOTED if _is_quoted(path) else _PLAIN))


def _is_quoted(path: Path) -> bool:
    """Return whether the cells of a TSV file are quoted as in CSV.

    Some programs quote cells; in the files of others a quotation mark is an ordinary character. If
    both readings are possible, a quoted cell whose lines are all complete rows is read as rows.
    """
    try:
        count = sum(1 for _ in _delimited(path, **_QUOTED))
    except UserError:
        return False
    lines = full = 0
    try:
        for row in _delimited(path, **_PLAIN):
            lines += 1
            full += len(row) > 1 and None not in row.values()
    except UserError:
        return True
    return lines == count or full < lines


def _delimited(path: Path, **dialect: Any) -> Iterator[Row]:
    # A cell may hold a long document. The limit is global to the process.
    csv.field_size_limit(sys.maxsize)
    with open_text(path) as file:
        reader = csv.reader(file, **dialect)
        try:
            header = next(filter(None, reader), [])
            twice = [name for i, name in enumerate(header) if name in header[:i]]
            if twice:
                raise _damaged(path, f"two columns have the name {twice[0]!r}; rename one")
            for cells in filter(None, reader):
                if len(cells) > len(header):
                    raise _damaged(
                        path,
                        f"line {reader.line_num} has {len(cells)} cells under {len(header)} names; "
                        "quote the cells that hold the separator",
                    )
                # Cells missing at the end are empty.
                yield dict.fromkeys(header) | dict(zip(header, cells, strict=False))
        except csv.Error as error:
            raise _damaged(path, f"line {reader.line_num}: {error}") from error


def _parquet(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    with optional_library("a parquet file", "train"):
        # A dependency of datasets.
        from pyarrow import parquet
    # A value that Python cannot represent, such as a year of five digits, raises any error.
    with explained(_unreadable(path)), open_bytes(path) as file:
        table = parquet.ParquetFile(file)
        names = table.schema_arrow.names
        wanted = None if columns is None or {*columns} - {*names} else list(columns)
        # Small batches, since a row may hold a long document.
        for batch in table.iter_batches(batch_size=1024, columns=wanted):
            yield from batch.to_pylist()


READERS: dict[str, Callable[[Path, Sequence[str] | None], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".jsonlines": _json_lines,
    ".jl": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".tab": _tsv,
    ".parquet": _parquet,
    ".pq": _parquet,
}
"""Readers of tables by the ending of the file."""

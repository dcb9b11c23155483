"""The file of results: rows are appended as they are done, and an interrupted run is continued."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from unmask.cli.marks import Marks
from unmask.errors import UserError, is_unicode

MARK = "unmask"
"""The field of a result that says how it was made; see ``marks``."""


@dataclass(frozen=True)
class Row:
    """A row with a text in it.

    Attributes:
        text: The text.
        head: Everything that is kept of the row, fit for JSON.
        number: Its number in the data, from 1.
    """

    text: str
    head: dict[str, Any]
    number: int


class Output:
    """The file that rows go to; it is opened, and an old one replaced, with the first of them."""

    def __init__(self, path: Path, marks: Marks, fasta: bool) -> None:
        self.path = path
        self.fasta = fasta
        self.marks, self._mark = marks, marks.now
        self.done = 0
        self._kept = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def resume(self, rows: Iterator[Row], each: int) -> Iterator[Row]:
        """Keep the lines of the rows that are in the file already, and return the other rows.

        Raises:
            UserError: If the file holds anything else, or results of another model or of other
                options.
        """
        if not self.path.exists():
            return rows
        with self.path.open("rb") as file:
            for row in rows:
                lines = list(islice(file, each))
                for number, line in enumerate(lines, self.done * each + 1):
                    self._check(line, number, row)
                if len(lines) < each or not lines[-1].endswith(b"\n"):
                    return chain([row], rows)
                self.done += 1
                self._kept += sum(map(len, lines))
            if file.read(1):
                raise self._foreign(self.done * each + 1)
        return rows

    def _check(self, line: bytes, number: int, row: Row) -> None:
        """Raise a UserError unless a line, or what was written of it, is a result of a row."""
        found: dict[str, Any] = {MARK: self._mark}
        if not line.endswith(b"\n"):
            begins = [
                _spelt(row.head, plain)[:-1].encode("utf-8", "surrogatepass")
                for plain in (True, False)
            ]
            same = any(line.startswith(b[: len(line)]) for b in begins)
        else:
            try:
                found = json.loads(line)
                same = all(_spelt(found[key]) == _spelt(value) for key, value in row.head.items())
            except (ValueError, TypeError, KeyError):
                same = False
        if not same:
            raise self._foreign(number)
        if not self.marks.known(mark := found.get(MARK)):
            raise UserError(
                f"line {number} of {self.path} is of another model or of other options; "
                "pass the same, or choose another --out"
            )
        # Results of an earlier version go on under its mark.
        self._mark = str(mark)

    def _foreign(self, number: int) -> UserError:
        return UserError(
            f"line {number} of {self.path} is not of this data; choose another --out, or "
            "--overwrite it"
        )

    def write(self, rows: list[Row], added: list[dict[str, Any]]) -> None:
        """Write rows with what is added to them, the same number of times each."""
        each = len(added) // len(rows)
        # All lines first, so that one that cannot be made leaves the file as it is.
        lines = [self._line(rows[i // each], more).encode() for i, more in enumerate(added)]
        if self._file is None:
            self._file = self.path.open("r+b" if self._kept else "wb")
            self._file.truncate(self._kept)
            self._file.seek(self._kept)
        self._file.writelines(lines)
        self._file.flush()

    def _line(self, row: Row, more: dict[str, Any]) -> str:
        if not self.fasta:
            content = row.head | more | {MARK: self._mark}
            line = _spelt(content, plain=False)
            # Half a character, which JSON can spell, has no bytes of its own.
            return (line if is_unicode(line) else _spelt(content)) + "\n"
        from unmask.data.fasta import record

        # A header is one line.
        name = " ".join(str(row.head.get("name") or row.number).split())
        return record(f"{name} {more['sample']}" if "sample" in more else name, more["text"])


def _spelt(content: Any, plain: bool = True) -> str:
    """Return a value as JSON, in which not-a-number is like itself."""
    return json.dumps(content, ensure_ascii=plain)

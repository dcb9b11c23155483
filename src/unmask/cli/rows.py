"""What ``generate``, ``infill`` and ``score`` share: rows of a file in, more on them out.

A row is a line of a text file, a row of a table or a record of a FASTA file. It is written when it
is done, so that a run that was stopped can go on after the last whole line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from unmask.cli import options
from unmask.errors import UserError, is_unicode

Work = Callable[[list[str]], list[dict[str, Any]]]
"""Texts -> what is added to the rows that they stand in, the same number of rows for each text."""
LINES = (".jsonl", ".ndjson")
AT_ONCE = 32
"""Texts that are handed on in one go."""
SHOWN = ("gif", "html", "frames", "as_json", "no_animate")
"""Options that show or record one text, which goes to no file of texts."""


@dataclass(frozen=True)
class Files:
    """The files that a command reads and writes.

    Attributes:
        data: Where the texts come from; None for the one on the command line.
        field: Their column, for tables.
        out: Where the rows go.
        resume: Go on after the last whole line of it.
        overwrite: Replace it.
    """

    data: str | None
    field: str
    out: Path | None
    resume: bool
    overwrite: bool

    @classmethod
    def take(cls, wishes: dict[str, Any], text: str | None, what: str) -> Files | None:
        """Take the options about files out of those of a command, and check them.

        Args:
            wishes: All options by name; those about files are removed.
            text: What was given on the command line.
            what: What that is called there.

        Returns:
            None if there are none.

        Raises:
            UserError: If two options contradict each other, or one has no effect.
        """
        files = cls(**{field.name: wishes.pop(field.name) for field in fields(cls)})
        if files.data is None and files.out is None:
            files.check_unused()
            return None
        if files.data is not None and text is not None:
            raise UserError(f"--data has the texts, so leave {what} out")
        if files.data is not None and files.out is None:
            raise UserError("--data needs --out, the file that the results go to")
        for name in SHOWN:
            if wishes.pop(name, None):
                option = name.removeprefix("as_").replace("_", "-")
                raise UserError(f"--out takes the texts, so leave --{option} out")
        files.check_out()
        return files

    def check_unused(self) -> None:
        """Raise a UserError for an option that is about files where there are none."""
        if self.field != "text":
            raise UserError(f"--field goes with --data; leave --field {self.field} out")
        if self.resume or self.overwrite:
            raise UserError("--resume and --overwrite are about --out")

    def check_out(self) -> None:
        """Raise a UserError for a file that cannot be written, or would be replaced unasked."""
        from unmask.render.files import check_writable
        from unmask.training.fasta import ENDINGS

        assert self.out is not None
        if self.out.suffix.lower() not in (*LINES, *ENDINGS):
            raise UserError(
                f"--out takes a name that ends in {LINES[0]} or {ENDINGS[0]}, not {self.out}"
            )
        if self.resume and self.overwrite:
            raise UserError("--resume continues what --overwrite would replace; choose one")
        if self.resume and (self.data is None or self.is_fasta):
            raise UserError(f"--resume goes with --data and an --out that ends in {LINES[0]}")
        check_writable(self.out)
        if self.out.exists() and not (self.resume or self.overwrite):
            raise UserError(f"{self.out} is there already; pass --resume or --overwrite")
        both = self.data is not None and os.path.exists(self.data) and self.out.exists()
        if both and os.path.samefile(str(self.data), self.out):
            raise UserError("--out is the data itself; choose another name")

    @property
    def is_fasta(self) -> bool:
        """Whether sequences are written."""
        return self.out is not None and self.out.suffix.lower() not in LINES


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


def write_rows(
    files: Files,
    text: str,
    work: Work,
    *,
    name: str,
    adds: tuple[str, ...],
    each: int = 1,
    check: Callable[[str], None] = lambda text: None,
) -> None:
    """Do some work on every text of a file, and write its row with what the work adds.

    Args:
        files: What to read and write.
        text: The only text, if there is no file of them.
        work: What to do.
        name: What a column "text" of the data is called in the result.
        adds: Names of all that the work may add.
        each: Rows that are written for a text.
        check: Raises a UserError for a text that cannot be worked on.

    Raises:
        UserError: If a row has no text or cannot be worked on; what is written by then stays.
    """
    assert files.out is not None

    def rows() -> Iterator[Row]:
        if files.data is None:
            return iter([Row(text, {name: text}, 1)])
        return _rows(files.data, files.field, name)

    # Read once before anything is written, to find what is wrong with it.
    total = empty = 0
    for row in rows():
        if not row.text.strip() and files.data is not None:
            empty += 1
            continue
        total += 1
        clash = [key for key in adds if key in row.head]
        if clash:
            raise UserError(
                f"{files.data} has a field {clash[0]!r} of its own, which the result would "
                "replace; rename it"
            )
        with _named(files.data, row):
            check(row.text)
    if not total:
        raise UserError(f"{files.data} holds no text")
    if empty:
        options.note(f"left out {empty} of {total + empty} rows of {files.data}, which are empty")
    full = (row for row in rows() if row.text.strip() or files.data is None)
    with Output(files) as output:
        if files.resume:
            output.resume(full, each)
        _work_on(full, total, max(AT_ONCE // each, 1), work, output, files)


def _work_on(
    rows: Iterator[Row], total: int, size: int, work: Work, output: Output, files: Files
) -> None:
    from rich.progress import Progress

    console = options.console()
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(Path(files.data or "").name, total=total, completed=output.done)
        while part := list(islice(rows, size)):
            try:
                output.write(part, work([row.text for row in part]))
            except UserError:
                # Which one is it? Those before it are still written.
                for row in part:
                    with _named(files.data, row):
                        output.write([row], work([row.text]))
            progress.advance(task, len(part))


@contextmanager
def _named(data: str | None, row: Row) -> Iterator[None]:
    """Say in an error which row it is about."""
    try:
        yield
    except UserError as error:
        if data is None:
            raise
        raise UserError(f"row {row.number} of {data}: {error}") from error


class Output:
    """The file that rows go to; it is opened, and an old one replaced, with the first of them."""

    def __init__(self, files: Files) -> None:
        assert files.out is not None
        self.path = files.out
        self.files = files
        self.done = 0
        self._kept = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def resume(self, rows: Iterator[Row], each: int) -> None:
        """Take those rows that are in the file already, and keep their lines.

        Raises:
            UserError: If the file holds anything else.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            while True:
                lines = [line for line in islice(file, each) if line.endswith(b"\n")]
                if len(lines) < each:
                    return
                row = next(rows, None)
                if row is None or not all(_holds(line, row.head) for line in lines):
                    raise UserError(
                        f"line {self.done * each + 1} of {self.path} is not of this data; choose "
                        "another --out, or --overwrite it"
                    )
                self.done += 1
                self._kept += sum(map(len, lines))

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
        if not self.files.is_fasta:
            line = json.dumps(row.head | more, ensure_ascii=False)
            # Half a character, which JSON can spell, has no bytes of its own.
            return (line if is_unicode(line) else json.dumps(row.head | more)) + "\n"
        from unmask.training.fasta import record

        name = str(row.head.get("name", row.number))
        return record(f"{name} {more['sample']}" if "sample" in more else name, more["text"])


def _holds(line: bytes, head: dict[str, Any]) -> bool:
    try:
        found = json.loads(line)
        return all(found[key] == value for key, value in head.items())
    except (ValueError, TypeError, KeyError):
        return False


def _rows(data: str, field: str, name: str) -> Iterator[Row]:
    """Yield the rows of a file with all their fields."""
    from unmask.training.data import labelled, without_text

    for number, row in enumerate(labelled(data, field, options.note), 1):
        text = row.pop(field, 0)
        if text is not None and not isinstance(text, str):
            raise without_text(number, data, field, row, "choose one with --field")
        key = name if field == "text" else field
        if key in row:
            raise UserError(
                f"{data} has a field {key!r} beside {field!r}, whose name it is to take; rename it"
            )
        # What JSON has no form for, such as a date, is written as text.
        head = json.loads(json.dumps({**row, key: text or ""}, default=str))
        yield Row(text or "", head, number)

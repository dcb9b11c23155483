"""What ``generate``, ``infill`` and ``score`` share: rows of a file in, rows with results out.

A row is a line of a text file, a row of a table or a record of a FASTA file. It is written when it
is done, so that a run that was stopped can go on after the last whole line. Each line bears a mark
of the model and the options, so that it goes on as it was begun.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

from unmask.cli import options, printing
from unmask.cli.marks import Marks
from unmask.cli.row_output import MARK, Output, Row
from unmask.errors import UserError
from unmask.validation import exclude, require

Work = Callable[[list[str]], list[dict[str, Any]]]
"""Texts -> what is added to their rows, the same number of rows for each text."""
LINES = (".jsonl", ".ndjson")
AT_ONCE = 32
"""Texts per call."""
SHOWN = ("gif", "html", "frames", "as_json", "no_animate")
"""Options that show or record a single text, refused where texts go to a file."""


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
    def take(cls, values: dict[str, Any], text: str | None, what: str) -> Files | None:
        """Split the options about files from those of a command, and check them.

        Args:
            values: All options by name; those about files are removed.
            text: What was given on the command line.
            what: What that is called there.

        Returns:
            None if there are none.

        Raises:
            UserError: If two options contradict each other, or one has no effect.
        """
        files = cls(**{field.name: values.pop(field.name) for field in fields(cls)})
        if files.data is None and files.out is None:
            files.check_unused()
            return None
        shown = {name.removeprefix("as_"): values.pop(name, None) for name in SHOWN}
        exclude(
            (what, files.data is not None and text is not None, "--data"),
            *((f"--{key.replace('_', '-')}", value, "--out") for key, value in shown.items()),
        )
        require(("--data", files.out, "--out, the file that the results go to"))
        files.check_out()
        return files

    def check_unused(self) -> None:
        """Raise a UserError for an option about files if there are none."""
        require(
            (f"--field {self.field}", self.field == "text", "--data"),
            ("--resume", not self.resume, "--data and --out"),
            ("--overwrite", not self.overwrite, "--out"),
        )

    def check_out(self) -> None:
        """Raise a UserError for a file that cannot be written or may not be replaced."""
        from unmask.data.fasta import ENDINGS
        from unmask.data.sources import check_apart
        from unmask.files import check_writable

        assert self.out is not None
        options.check_ending("out", self.out, (*LINES, *ENDINGS), (LINES[0], ENDINGS[0]))
        exclude(("--resume", self.resume and self.overwrite, "--overwrite"))
        possible = self.data is not None and not self.is_fasta
        lines = f"--data and an --out that ends in {LINES[0]}"
        require(("--resume", possible or not self.resume, lines))
        check_writable(self.out)
        if self.out.exists() and not (self.resume or self.overwrite):
            raise UserError(f"{self.out} is there already; pass --resume or --overwrite")
        if self.data is not None:
            check_apart(self.data, self.out)

    @property
    def is_fasta(self) -> bool:
        """Whether sequences are written."""
        return self.out is not None and self.out.suffix.lower() not in LINES


def write_rows(
    files: Files,
    text: str,
    work: Work,
    *,
    name: str,
    adds: tuple[str, ...],
    marks: Marks,
    each: int = 1,
    asks: Callable[[str], bool] = lambda text: True,
    demand: Callable[[str], None] = lambda text: None,
) -> None:
    """Do some work on every text of a file, and write its row with what the work adds.

    Args:
        files: What to read and write.
        text: The only text, if there is no file of them.
        work: What to do.
        name: What a column "text" of the data is called in the result.
        adds: Names of all that the work may add.
        marks: The mark of the results.
        each: Rows that are written for a text.
        asks: Whether a text asks for anything; raises a UserError for one that cannot be worked on.
        demand: Raises a UserError for a text that asks for nothing; called if none does.

    Raises:
        UserError: If a row has no text or cannot be worked on; what is written by then stays.
    """
    assert files.out is not None
    taken = {*adds, MARK}
    total = _check(files, text, name, taken, asks, demand)
    full = (
        row
        for row in _rows(files, text, name, taken, lambda line: None)
        if row.text.strip() or files.data is None
    )
    with Output(files.out, marks, files.is_fasta) as output:
        rest = output.resume(full, each) if files.resume else full
        _work_on(rest, total, max(AT_ONCE // each, 1), work, output, files)


def _check(
    files: Files,
    text: str,
    name: str,
    taken: set[str],
    asks: Callable[[str], bool],
    demand: Callable[[str], None],
) -> int:
    """Read all rows before anything is written, to find what is wrong; return how many have text.

    The arguments are those of ``write_rows``; for ``taken`` see ``_rows``.
    """
    from unmask.data.sources import check_whole

    total = empty = idle = 0
    first: Row | None = None
    for row in _rows(files, text, name, taken, options.note):
        if not row.text.strip() and files.data is not None:
            empty += 1
            continue
        total += 1
        if files.data is not None:
            check_whole(row.text, row.number, files.data)
        with _named(files.data, row):
            if not asks(row.text):
                idle, first = idle + 1, first or row
    if not total:
        raise UserError(f"{files.data} holds no text")
    if first is not None and idle == total:
        with _named(files.data, first):
            demand(first.text)
    if empty:
        options.note(f"left out {empty} of {total + empty} rows of {files.data}, which are empty")
    if first is not None:
        options.note(
            f"{idle} of {total} rows of {files.data} hold no blank and stay as they are, such as "
            f"row {first.number}"
        )
    return total


def _work_on(
    rows: Iterator[Row], total: int, size: int, work: Work, output: Output, files: Files
) -> None:
    from rich.markup import escape

    from unmask.render.console import progress_bar

    with progress_bar(options.console()) as progress:
        title = escape(printing.visible(Path(files.data or "").name))
        task = progress.add_task(title, total=total, completed=output.done)
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
        where = "" if data is None else f"row {row.number} of {data}: "
        raise UserError(f"{where}{error}") from error


def _rows(
    files: Files, text: str, name: str, taken: set[str], note: Callable[[str], None]
) -> Iterator[Row]:
    """Yield the rows of a file with all their fields, or the only text.

    Args:
        files: What to read.
        text: The only text, if there is no file of them.
        name: What a column "text" of the data is called in the result.
        taken: Names of what is added to the rows.
        note: Called with lines about the data.

    Raises:
        UserError: If a row has no text, or a field with one of these names.
    """
    from unmask.data.sources import labelled, without_text

    data, field = files.data, files.field
    if data is None:
        yield Row(text, {name: text}, 1)
        return
    for number, row in enumerate(labelled(data, field, note), 1):
        found = row.pop(field, 0)
        if found is not None and not isinstance(found, str):
            raise without_text(number, data, field, row, "choose one with --field")
        key = name if field == "text" else field
        clash = sorted({*row} & {*taken, key} | {key} & taken)
        if clash:
            raise UserError(
                f"{data} has a field {clash[0]!r} of its own, which the result would replace; "
                "rename it"
            )
        # What JSON has no form for, such as a date, is written as text.
        head = json.loads(json.dumps({**row, key: found or ""}, default=str))
        yield Row(found or "", head, number)

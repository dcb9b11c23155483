"""FASTA, the format of sequences: a header line that begins with >, then the sequence in lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unmask.errors import UserError
from unmask.training.texts import open_text

ENDINGS = (".fasta", ".fa", ".faa", ".fna", ".ffn", ".frn", ".fas")
"""How the names of such files end."""
WIDTH = 60
"""Letters in a line that is written."""


def read_sequences(path: Path) -> Iterator[Iterator[str]]:
    """Yield the sequence of each record, line by line, without its header and its line ends.

    A sequence has to be taken before the next one is asked for. Lines that begin with ; are
    comments.

    Raises:
        UserError: If the file cannot be read, or begins with anything but a header.
    """
    with open_text(path, newline=None) as file:
        lines = (line.strip() for line in file if not line.startswith(";"))
        first = next((line for line in lines if line), None)
        if first is None:
            return
        if not first.startswith(">"):
            raise UserError(
                f"{path} is no FASTA file, since it does not begin with a > header; name it .txt "
                "if it is plain text"
            )
        more = True

        def sequence() -> Iterator[str]:
            nonlocal more
            for line in lines:
                if line.startswith(">"):
                    return
                yield "".join(line.split())
            more = False

        while more:
            yield sequence()


def record(name: str, sequence: str) -> str:
    """Return a sequence as a record with a header, in lines of ``WIDTH`` letters."""
    letters = "".join(sequence.split())
    lines = [letters[i : i + WIDTH] for i in range(0, len(letters), WIDTH)]
    return "\n".join([f">{name}", *lines]) + "\n"

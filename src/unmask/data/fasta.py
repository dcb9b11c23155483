"""FASTA, the format of sequences: a header line that begins with >, then the sequence in lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unmask.data.text_files import open_text
from unmask.errors import UserError

ENDINGS = (".fasta", ".fa", ".faa", ".fna", ".ffn", ".frn", ".fas")
"""Endings of FASTA files."""
WIDTH = 60
"""Letters per line in output."""


def read_sequences(path: Path) -> Iterator[tuple[str, Iterator[str]]]:
    """Yield the header of each record without ``>``, and its sequence line by line.

    A sequence has to be read before the next record is. Lines that begin with ; are comments.

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
        header: str | None = first

        def sequence() -> Iterator[str]:
            nonlocal header
            for line in lines:
                if line.startswith(">"):
                    header = line
                    return
                yield "".join(line.split())
            header = None

        while header is not None:
            yield header[1:].strip(), sequence()


def record(name: str, sequence: str) -> str:
    """Return a sequence as a record with a header, in lines of ``WIDTH`` letters.

    Raises:
        UserError: If the sequence contains ``>``.
    """
    letters = "".join(sequence.split())
    if ">" in letters:
        raise UserError(f"{letters[:40]!r} contains >, so it is no sequence; write .jsonl instead")
    lines = [letters[i : i + WIDTH] for i in range(0, len(letters), WIDTH)]
    return "\n".join([f">{name}", *lines]) + "\n"

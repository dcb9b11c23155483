"""A console and a progress bar on standard error that never fail: they are not the result."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.progress import Progress


class StandardError:
    """The current ``sys.stderr``, with its failures suppressed.

    A closed pipe or terminal, or a full disk, must not end a computation.
    """

    def write(self, text: str) -> int:
        """Write what can be written and return the length of the text."""
        if sys.stderr is not None:
            with suppress(OSError):
                sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        if sys.stderr is not None:
            with suppress(OSError):
                sys.stderr.flush()

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return sys.stderr is not None and sys.stderr.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


def stderr_console() -> Console:
    """Return a console on standard error that never fails."""
    stream: Any = StandardError()
    return Console(file=stream, stderr=True)


def progress_bar(console: Console | None = None) -> Progress:
    """Return a progress bar, only on a terminal, that is removed at the end.

    Args:
        console: Where it is shown; None for standard error.
    """
    console = console or stderr_console()
    return Progress(console=console, disable=not console.is_terminal, transient=True)

"""The console for everything that is not the result: what cannot be shown is no reason to end."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from rich.console import Console


class StandardError:
    """Standard error as it is at the time, without its failures.

    Who reads it may have seen enough, its terminal may be closed, its disk may be full.
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

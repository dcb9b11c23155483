r"""What the command line prints, which must not drive a terminal: words of models, files and cards.

Control characters are printed as escapes such as ``\x1b``, but for tabs and line ends, and but for
standard output that is an ordinary file: there a text is exactly what it is.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)")
_VERBOSITY = "unmask.verbosity"
_NOT_ASCII_CONTROL = re.compile(r"[\x7f-\x9f]")


def visible(text: str) -> str:
    """Return a text with its control characters as escapes, but for tabs and line ends."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def result(text: str) -> None:
    """Print a line, or lines, to standard output."""
    exact = _is_file()
    # What is left in a text for a file is no colour that click would have to take out.
    click.echo(text if exact else visible(text), color=exact or None)


def record(content: Any) -> None:
    """Print a JSON object to standard output; JSON itself leaves some control characters as is."""
    text = json.dumps(content, ensure_ascii=False)
    click.echo(_NOT_ASCII_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def note(text: str) -> None:
    """Print a line to standard error, unless quiet."""
    if not is_quiet():
        error(text)


def detail(text: str) -> None:
    """Print a line to standard error if ``-v`` asks for it."""
    if is_verbose():
        error(text)


def error(text: str) -> None:
    """Print a line to standard error, if that is possible: it is no reason to fail."""
    with suppress(OSError):
        click.echo(visible(text), err=True)


def set_verbosity(level: int) -> None:
    """Set what the running command prints to standard error: -1 errors only, 1 details too."""
    click.get_current_context().meta[_VERBOSITY] = level


def is_quiet() -> bool:
    """Return whether nothing but errors is printed to standard error."""
    return _verbosity() < 0


def is_verbose() -> bool:
    """Return whether details are printed to standard error."""
    return _verbosity() > 0


def _verbosity() -> int:
    context = click.get_current_context(silent=True)
    level: int = 0 if context is None else context.meta.get(_VERBOSITY, 0)
    return level


def say(console: Console, text: str) -> None:
    """Print a line to a console as it is, without markup or wrapping."""
    from rich.text import Text

    console.print(Text(visible(text)), soft_wrap=True)


def heading(console: Console, text: str) -> None:
    """Print a heading to a console, as a rule with the text in it."""
    from rich.text import Text

    console.rule(Text(visible(text)), style="dim")


def _is_file() -> bool:
    try:
        return stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)
    except (OSError, ValueError, AttributeError):
        return False

"""The exception for mistakes of the user, and what turns errors of libraries into it.

The command line prints a ``UserError`` as one sentence and exits with code 2. Any other exception
is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from unmask._names import earlier


class UserError(ValueError):
    """An error that the user can fix; the message says what is wrong and what to do."""


def is_unicode(text: str) -> bool:
    """Return whether UTF-8 can encode a text; Python decodes invalid bytes as surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def did_you_mean(word: object, choices: Iterable[str]) -> str:
    """Return "; it is called X now", "; did you mean X?" of a close match, or "; choose one of"."""
    known = sorted(choices)
    now = earlier.ALL.get(str(word))
    if now in known:
        return f"; it is called {now!r} now"
    if not known:
        return "; there are none"
    near = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; choose one of {', '.join(known)}"


def reason_of(error: BaseException) -> str:
    """Return why something failed: the operating system's reason, or the first line of an error."""
    text = getattr(error, "strerror", None) or str(error)
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    # A line that ends in a colon only introduces the reason.
    reason = " ".join(lines[:2]) if lines and lines[0].endswith(":") else "".join(lines[:1])
    return reason.rstrip(".:") or type(error).__name__


@contextmanager
def explained(
    what: str,
    remedy: str = "",
    kinds: tuple[type[BaseException], ...] = (Exception,),
    keep: tuple[type[BaseException], ...] = (UserError,),
    reason: Callable[[BaseException], str] = reason_of,
) -> Iterator[None]:
    """Turn the errors of a library into "what: reason", or "what (reason); remedy".

    A panic of a Rust library, which is no ``Exception``, counts as one.

    Args:
        what: What failed.
        remedy: What to do about it; empty if that follows from the reason.
        kinds: Errors to explain.
        keep: Errors to leave as they are.
        reason: Returns the reason of an error.

    Raises:
        UserError: If the block raises one of these errors.
    """
    try:
        yield
    except keep:
        raise
    except BaseException as error:
        if not isinstance(error, kinds) and not is_panic(error):
            raise
        why = reason(error)
        raise UserError(f"{what} ({why}); {remedy}" if remedy else f"{what}: {why}") from error


def is_panic(error: BaseException) -> bool:
    """Return whether an error is the panic of a Rust library."""
    return type(error).__name__ == "PanicException"


@contextmanager
def optional_library(purpose: str, extra: str) -> Iterator[None]:
    """Turn a failed import into "... needs ..., which is not installed", with how to install it.

    Args:
        purpose: Subject of the message, such as "a GIF".
        extra: The extra of this package that has the library.

    Raises:
        UserError: If an import fails.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{purpose} needs {error.name or 'a library'}, which is not installed; run: "
            f"pip install 'unmask[{extra}]'"
        ) from error

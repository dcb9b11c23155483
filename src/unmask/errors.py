"""The exception for mistakes of the user, and helpers for its messages.

The command line prints a ``UserError`` as one sentence and exits with code 2. Any other exception
is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
    """Return "; did you mean 'x'?" for a close match, else "; choose one of ..."."""
    known = sorted(choices)
    near = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; choose one of {', '.join(known)}"

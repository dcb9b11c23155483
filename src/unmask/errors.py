"""The one exception that the project raises for a mistake of its user, and the words it is made of.

The command line prints a ``UserError`` as one sentence and leaves with exit code 2; anything else
is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the caller can put right; the message says what is wrong and what to do."""


def is_unicode(text: str) -> bool:
    """Return whether a text can be written as UTF-8: bytes that are none arrive as surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def did_you_mean(word: object, choices: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for a near miss, else "; choose one of ..."."""
    known = sorted(choices)
    near = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; choose one of {', '.join(known)}"

"""Values as a caller gives them, from Python, NumPy or a file, as what they are meant to be.

Every function takes the name of an option and its value, and returns the value in Python's own
type, or raises a ``UserError`` that names the option.
"""

from __future__ import annotations

import operator
import os
from typing import Any

from unmask.errors import UserError


def whole(name: str, value: Any) -> int:
    """Return a whole number; 1.0 and True are none."""
    if _is_flag(value):
        raise UserError(f"{name} must be a whole number, not {value!r}")
    try:
        return operator.index(value)
    except TypeError as error:
        raise UserError(f"{name} must be a whole number, not {value!r}") from error


def real(name: str, value: Any) -> float:
    """Return a number; a text that spells one is none."""
    if _is_flag(value) or isinstance(value, str | bytes):
        raise UserError(f"{name} must be a number, not {value!r}")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise UserError(f"{name} must be a number, not {value!r}") from error


def flag(name: str, value: Any) -> bool:
    """Return True or False."""
    if not _is_flag(value):
        raise UserError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def word(name: str, value: Any) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise UserError(f"{name} must be a text, not {value!r}")
    return value


def words(name: str, value: Any) -> list[str]:
    """Return one text or several as a list."""
    if isinstance(value, str):
        return [value]
    try:
        texts = list(value)
    except TypeError as error:
        raise UserError(f"{name} must be a text or a list of texts, not {value!r}") from error
    return [word(name, text) for text in texts]


def place(name: str, value: Any) -> str:
    """Return the name of a file, a folder or something on the hub."""
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str) or not path:
        raise UserError(f"{name} must be the name of a folder or on the hub, not {value!r}")
    return path


def _is_flag(value: Any) -> bool:
    """Return whether a value is True or False, of Python, NumPy or torch."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")

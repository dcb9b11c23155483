"""Values as a caller gives them, from Python, NumPy or a file, as what they are meant to be.

Every function takes the name of an option and its value, and returns the value in Python's own
type, or raises a ``UserError`` that names the option.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable
from typing import Any

from unmask.errors import UserError


def whole(name: str, value: Any) -> int:
    """Return a whole number; 1.0 and True are none."""
    if isinstance(value, bool):
        raise UserError(f"{name} must be a whole number, not {value!r}")
    try:
        return operator.index(value)
    except TypeError as error:
        raise UserError(f"{name} must be a whole number, not {value!r}") from error


def real(name: str, value: Any) -> float:
    """Return a number; a text that spells one is none."""
    if isinstance(value, bool | str | bytes):
        raise UserError(f"{name} must be a number, not {value!r}")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise UserError(f"{name} must be a number, not {value!r}") from error


def flag(name: str, value: Any) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise UserError(f"{name} must be True or False, not {value!r}")
    return value


def word(name: str, value: Any) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise UserError(f"{name} must be a text, not {value!r}")
    return value


def words(name: str, value: Any) -> list[str]:
    """Return one text or several as a list."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, bytes) or not isinstance(value, Iterable):
        raise UserError(f"{name} must be a text or a list of texts, not {value!r}")
    return [word(name, text) for text in value]


def place(name: str, value: Any) -> str:
    """Return the name of a file, a folder or something on the hub."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise UserError(f"{name} must be the name of a folder or on the hub, not {value!r}")
    return str(value)

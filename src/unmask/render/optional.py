"""What to say when a library that only pictures need is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from unmask.errors import UserError


@contextmanager
def viz_extra(purpose: str) -> Iterator[None]:
    """Turn a failed import inside the block into one sentence.

    Args:
        purpose: What the import is for, as the subject of "needs": "a GIF".

    Raises:
        UserError: If something cannot be imported; names the extra that brings it.
    """
    try:
        yield
    except ImportError as error:
        missing = error.name or "a library"
        raise UserError(
            f"{purpose} needs {missing}, which is not installed; run: pip install 'unmask[viz]'"
        ) from error

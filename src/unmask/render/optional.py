"""The error for a missing library that only pictures need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from unmask.errors import UserError


@contextmanager
def viz_extra(purpose: str) -> Iterator[None]:
    """Turn an ImportError in the block into a UserError.

    Args:
        purpose: Subject of the message: "a GIF" gives "a GIF needs ...".

    Raises:
        UserError: If an import fails; names the extra to install.
    """
    try:
        yield
    except ImportError as error:
        missing = error.name or "a library"
        raise UserError(
            f"{purpose} needs {missing}, which is not installed; run: pip install 'unmask[viz]'"
        ) from error

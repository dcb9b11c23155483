"""All comparisons by group. The module of a group is imported only if it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from benchmarks.measure import Comparison

GROUPS = (
    "training",
    "objectives",
    "generation",
    "blocks",
    "batches",
    "backends",
    "startup",
    "overhead",
    "pixels",
)
ON_REQUEST = ("alternatives", "pixels_published")
"""Groups that run only if they are named, since they need more libraries or more time."""


def comparisons(only: str | None, quick: bool) -> Iterator[Comparison]:
    """Yield all comparisons, or those whose name or group is ``only``.

    Args:
        only: A group such as ``generation`` or a comparison such as ``generation-int8``.
        quick: Smaller networks and fewer tokens, as a smoke test.
    """
    for group in GROUPS if only is None else GROUPS + ON_REQUEST:
        if only is None or only.startswith(group):
            for comparison in import_module(f"benchmarks.{group}").comparisons(quick):
                if only in (None, group, comparison.name):
                    yield comparison


def find(name: str, quick: bool) -> Comparison:
    """Return the comparison of that name."""
    return next(c for c in comparisons(name, quick) if c.name == name)

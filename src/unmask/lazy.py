"""Public names of a package that are imported on first use, so that ``--help`` needs no torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package.

    Args:
        package: Its name.
        homes: Names to import by module, as in ``from .recipe_file import load as load_recipe``:
            ``{"recipe_file": "load as load_recipe"}``.
    """
    places = dict[str, tuple[str, str]]()
    for module, names in homes.items():
        for own, _, public in (name.partition(" as ") for name in names.split(", ")):
            places[public or own] = (f".{module}", own)

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, own = places[name]
        return getattr(import_module(module, package), own)

    return find, lambda: sorted({*vars(sys.modules[package]), *places})

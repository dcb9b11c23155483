"""Public names of a package that are imported on first use, so that ``--help`` needs no torch."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any


def lazy(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package; the first has its ``__all__`` too.

    The public names are those that it imports under ``if TYPE_CHECKING:``, as ``Name as Name``,
    which tells type checkers that they are public. They are imported when they are used.
    (``lazy_loader`` reads the same from a stub.)

    Args:
        package: Its name.
    """

    @cache
    def homes() -> dict[str, tuple[str, str]]:
        tree = ast.parse(files(package).joinpath("__init__.py").read_text("utf-8"))
        blocks = [node for node in tree.body if isinstance(node, ast.If)]
        return {
            alias.asname or alias.name: (str(node.module), alias.name)
            for node in (node for block in blocks for node in block.body)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    def find(name: str) -> Any:
        if name == "__all__":
            return sorted(homes())
        if name not in homes():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, own = homes()[name]
        return getattr(import_module(module), own)

    return find, lambda: sorted({*vars(sys.modules[package]), *homes()})

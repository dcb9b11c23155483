"""Turn any BERT into a text generator: masked diffusion for every Hugging Face ``*ForMaskedLM``.

    from unmask import Unmasker

    writer = Unmasker.from_pretrained()            # the small model in the package
    writer.generate("The history of", steps=32).texts

Importing this package imports neither torch nor transformers; they come with the first use.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask import sampling
    from unmask.pipelines.autoregressor import Autoregressor
    from unmask.pipelines.output import Generated
    from unmask.pipelines.unmasker import Unmasker

from unmask.errors import UserError

__version__ = "0.1.0"
__all__ = ["Autoregressor", "Generated", "Unmasker", "UserError", "__version__", "sampling"]


def lazy(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package.

    Args:
        package: Its name.
        homes: Names to import by module, as in ``from .recipe_file import load as load_recipe``:
            ``{"recipe_file": "load as load_recipe"}``; ``*`` is the module itself.
    """
    places = dict[str, tuple[str, str]]()
    for module, names in homes.items():
        for own, _, public in (name.partition(" as ") for name in names.split(", ")):
            places[public or own] = (f".{module}", own)

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, own = places[name]
        found = import_module(module, package)
        return found if own == "*" else getattr(found, own)

    return find, lambda: sorted({*vars(sys.modules[package]), *places})


__getattr__, __dir__ = lazy(
    __name__,
    {
        "pipelines.autoregressor": "Autoregressor",
        "pipelines.output": "Generated",
        "pipelines.unmasker": "Unmasker",
        "sampling": "* as sampling",
    },
)

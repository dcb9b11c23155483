"""Turn any BERT into a text generator: masked diffusion for every Hugging Face ``*ForMaskedLM``.

    from unmask import Unmasker

    writer = Unmasker.from_pretrained()            # the small model in the package
    writer.generate("The history of", steps=32).texts

Importing this package imports neither torch nor transformers; they come with the first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask import sampling
    from unmask.pipelines.autoregressor import Autoregressor
    from unmask.pipelines.images import ImageUnmasker
    from unmask.pipelines.output import Generated
    from unmask.pipelines.unmasker import Unmasker

from unmask.errors import UserError

__version__ = "0.1.0"
__all__ = [
    "Autoregressor",
    "Generated",
    "ImageUnmasker",
    "Unmasker",
    "UserError",
    "__version__",
    "sampling",
]

_HOMES = {
    "Autoregressor": "unmask.pipelines.autoregressor",
    "Generated": "unmask.pipelines.output",
    "ImageUnmasker": "unmask.pipelines.images",
    "Unmasker": "unmask.pipelines.unmasker",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "sampling":
        return import_module("unmask.sampling")
    if name not in _HOMES:
        raise AttributeError(f"module 'unmask' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

"""A model, its tokenizer and its card as one object that generates and scores."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.pipelines.autoregressor import Autoregressor
    from unmask.pipelines.base import DiffusionPipeline, Pipeline
    from unmask.pipelines.generation import GenerationPlan, resolve
    from unmask.pipelines.output import Generated
    from unmask.pipelines.request import GenerationRequest
    from unmask.pipelines.unmasker import Unmasker

__all__ = [
    "Autoregressor",
    "DiffusionPipeline",
    "Generated",
    "GenerationPlan",
    "GenerationRequest",
    "Pipeline",
    "Unmasker",
    "resolve",
]

_HOMES = {
    "unmask.pipelines.autoregressor": "Autoregressor",
    "unmask.pipelines.base": "DiffusionPipeline Pipeline",
    "unmask.pipelines.generation": "GenerationPlan resolve",
    "unmask.pipelines.output": "Generated",
    "unmask.pipelines.request": "GenerationRequest",
    "unmask.pipelines.unmasker": "Unmasker",
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'unmask.pipelines' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

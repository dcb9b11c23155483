"""A model, its tokenizer and its card as one object that generates and scores."""

from __future__ import annotations

import importlib
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
    "Autoregressor": "autoregressor",
    "DiffusionPipeline": "base",
    "Generated": "output",
    "GenerationPlan": "generation",
    "GenerationRequest": "request",
    "Pipeline": "base",
    "Unmasker": "unmasker",
    "resolve": "generation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

"""A model, its tokenizer and its card as one object that generates and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

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

__getattr__, __dir__ = lazy(__name__)

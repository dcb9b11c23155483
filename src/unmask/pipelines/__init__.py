"""A model, its tokenizer and its card as one object that generates and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.pipelines.autoregressor import Autoregressor as Autoregressor
    from unmask.pipelines.base import DiffusionPipeline as DiffusionPipeline
    from unmask.pipelines.base import Pipeline as Pipeline
    from unmask.pipelines.generation import GenerationPlan as GenerationPlan
    from unmask.pipelines.generation import resolve as resolve
    from unmask.pipelines.image_autoregressor import ImageAutoregressor as ImageAutoregressor
    from unmask.pipelines.image_samples import generate_images as generate_images
    from unmask.pipelines.images import GeneratedImages as GeneratedImages
    from unmask.pipelines.images import ImageUnmasker as ImageUnmasker
    from unmask.pipelines.output import Generated as Generated
    from unmask.pipelines.request import GenerationRequest as GenerationRequest
    from unmask.pipelines.unmasker import Unmasker as Unmasker

__getattr__, __dir__ = lazy(__name__)

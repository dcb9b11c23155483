"""Networks of transformers as denoisers, and the folders they are saved in; loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.models.any_order import AnyOrderDenoiser, make_denoiser
    from unmask.models.approximate_cache import FrozenDenoiser
    from unmask.models.checkpoint import Card
    from unmask.models.classifier import TextClassifier
    from unmask.models.decoder import DecoderDenoiser
    from unmask.models.encoder import EncoderDenoiser
    from unmask.models.loading import load_card, load_equipped, load_model, load_tokenizer
    from unmask.models.logistic_head import LogisticHead
    from unmask.models.traits import Traits, traits_of

__all__ = [
    "AnyOrderDenoiser",
    "Card",
    "DecoderDenoiser",
    "EncoderDenoiser",
    "FrozenDenoiser",
    "LogisticHead",
    "TextClassifier",
    "Traits",
    "load_card",
    "load_equipped",
    "load_model",
    "load_tokenizer",
    "make_denoiser",
    "traits_of",
]

__getattr__, __dir__ = lazy(__name__)

"""Networks of transformers as denoisers, and the folders they are saved in; loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.models.any_order import AnyOrderDenoiser, make_denoiser
    from unmask.models.approximate_cache import FrozenDenoiser
    from unmask.models.checkpoint import Card
    from unmask.models.classifier import TextClassifier
    from unmask.models.decoder import DecoderDenoiser
    from unmask.models.encoder import EncoderDenoiser
    from unmask.models.loading import load_card, load_equipped, load_model, load_tokenizer
    from unmask.models.traits import Traits, traits_of

__all__ = [
    "AnyOrderDenoiser",
    "Card",
    "DecoderDenoiser",
    "EncoderDenoiser",
    "FrozenDenoiser",
    "TextClassifier",
    "Traits",
    "load_card",
    "load_equipped",
    "load_model",
    "load_tokenizer",
    "make_denoiser",
    "traits_of",
]

_HOMES = {
    "AnyOrderDenoiser": "any_order",
    "Card": "checkpoint",
    "DecoderDenoiser": "decoder",
    "EncoderDenoiser": "encoder",
    "FrozenDenoiser": "approximate_cache",
    "TextClassifier": "classifier",
    "Traits": "traits",
    "load_card": "loading",
    "load_equipped": "loading",
    "load_model": "loading",
    "load_tokenizer": "loading",
    "make_denoiser": "any_order",
    "traits_of": "traits",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

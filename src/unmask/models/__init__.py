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
    "any_order": "AnyOrderDenoiser make_denoiser",
    "approximate_cache": "FrozenDenoiser",
    "checkpoint": "Card",
    "classifier": "TextClassifier",
    "decoder": "DecoderDenoiser",
    "encoder": "EncoderDenoiser",
    "loading": "load_card load_equipped load_model load_tokenizer",
    "traits": "Traits traits_of",
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

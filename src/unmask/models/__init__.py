"""Networks of transformers as denoisers, and the folders they are saved in; loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.models.any_order import AnyOrderDenoiser as AnyOrderDenoiser
    from unmask.models.any_order import make_denoiser as make_denoiser
    from unmask.models.approximate_cache import FrozenDenoiser as FrozenDenoiser
    from unmask.models.checkpoint import Card as Card
    from unmask.models.classifier import TextClassifier as TextClassifier
    from unmask.models.decoder import DecoderDenoiser as DecoderDenoiser
    from unmask.models.encoder import EncoderDenoiser as EncoderDenoiser
    from unmask.models.loading import load_card as load_card
    from unmask.models.loading import load_equipped as load_equipped
    from unmask.models.loading import load_model as load_model
    from unmask.models.loading import load_tokenizer as load_tokenizer
    from unmask.models.logistic_head import LogisticHead as LogisticHead
    from unmask.models.traits import Traits as Traits
    from unmask.models.traits import traits_of as traits_of

__getattr__, __dir__ = lazy(__name__)

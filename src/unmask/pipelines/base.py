"""What every pipeline is made of: a model, its tokenizer as a codec, and its card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from unmask.data.codec import Codec
from unmask.data.text_rows import Text, window_of
from unmask.diffusion import capabilities
from unmask.diffusion.capabilities import IMAGES, PAIRS, RECORDS, Kind
from unmask.diffusion.denoiser import Denoiser, uses_time
from unmask.diffusion.formulation import Formulation, PerTokenFormulation
from unmask.diffusion.registry import make_formulation
from unmask.errors import UserError
from unmask.evaluation.likelihood import RowNats, score_text
from unmask.evaluation.scores import Score
from unmask.models import extra_weights
from unmask.models.any_order import make_denoiser
from unmask.models.approximate_cache import FrozenDenoiser
from unmask.models.checkpoint import Card
from unmask.models.decoder import DecoderDenoiser
from unmask.models.runtimes.openvino import ExportedDenoiser
from unmask.models.saving import save
from unmask.models.traits import traits_of
from unmask.sampling.canvas import Canvas
from unmask.sampling.reverse import posterior_denoiser
from unmask.validation import place, word, words

CACHES = ("exact", "off", "frozen")
MAX_ROW_LENGTH = 512
"""Tokens in a row of text to be scored, unless a caller names more."""

Advance = Callable[[int], None]
"""Called with the number of rows done."""


class Pipeline:
    """A model that generates and scores text.

    Args:
        model: A language model of transformers.
        codec: Its tokenizer.
        card: Its history and defaults.
        backend: What computes the network; see ``runtimes.select``.
        positions: Tokens that the network has positions for; None for no limit.
    """

    def __init__(
        self, model: Any, codec: Codec, card: Card, backend: str, positions: int | None
    ) -> None:
        self.model, self.card, self.backend = model, card, backend
        # Each pipeline uses more of the codec of its modality than the protocol has.
        self.codec: Any = codec
        self.positions = self.limit = positions

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        device: torch.device = self.model.device
        return device

    @property
    def row_length(self) -> int:
        """Tokens in a row of text to be scored: what the model was trained on, at most 512."""
        return row_length(self.card, self.positions)

    def rows(self, text: Any, window: int | None = None, stride: int | None = None) -> Text:
        """Return a text, or several documents, in the rows that ``score`` cuts it into.

        Args:
            text: One text, or documents one after the other.
            window: Tokens in a row; None for ``row_length``.
            stride: Tokens that each row after the first predicts, conditioned on those before them
                in the row; None for rows that do not overlap.

        Raises:
            UserError: If there is no text, or window or stride is out of range.
        """
        length = window_of(window, self.row_length, self.positions, self.card.block_length)
        return Text.from_documents(words("text", text), self.codec, length, stride)

    def _score(self, data: Any, row_nats: RowNats, **options: Any) -> Score:
        """Return the score of data; see ``evaluation.likelihood.score_text``."""
        rows = data if isinstance(data, Text) else self._rows_of(data)
        return score_text(rows, row_nats, device=self.device, **options)

    def _rows_of(self, data: Any) -> Text:
        """Return what ``score`` is given as rows: one text."""
        return self.rows(word("text", data))

    @property
    def computed_by(self) -> dict[str, str]:
        """Backend, for the record; empty for the default."""
        return {} if self.backend == "torch" else {"backend": self.backend}


class DiffusionPipeline(Pipeline):
    """A denoiser and the formulation that it was trained by, with what a ``Pipeline`` has.

    Args:
        model: The network of ``denoiser``.
        codec: Its tokenizer.
        card: Its history and defaults.
        denoiser: The network as a ``Denoiser`` or a ``BlockDenoiser``.
        formulation: What it was trained by.
        cache: One of ``CACHES``; see ``Unmasker``.
        backend: What computes the network; see ``runtimes.select``.
        positions: Tokens that the network has positions for; None for no limit.
        counts: How often each token occurs in the training text, shape (V,); None if unknown.
    """

    def __init__(
        self,
        model: Any,
        codec: Codec,
        card: Card,
        denoiser: Any,
        formulation: Formulation,
        cache: str = "exact",
        backend: str = "torch",
        positions: int | None = None,
        counts: Tensor | None = None,
    ) -> None:
        super().__init__(model, codec, card, backend, positions)
        self.denoiser: Any = denoiser
        self.formulation = formulation
        self.cache = cache
        self._counts = counts

    unconditioned: ClassVar[str] = (
        "guidance weighs the text with and without what is given, and nothing is: give a prompt, a "
        "source or words around the blanks, or leave the scale out"
    )
    """The error for guidance where nothing is given."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of model that this one is of; see ``diffusion.capabilities``."""
        layouts = (
            (self.card.pairs, PAIRS),
            (self.card.records, RECORDS),
            (self.card.images, IMAGES),
        )
        return (*(layout for trained, layout in layouts if trained), self.formulation)

    def supports(self, feature: str) -> bool:
        """Return whether the model supports a feature of ``capabilities.FEATURES``."""
        return capabilities.supported(self.kinds, feature)

    def require(self, feature: str, name: str | None = None) -> None:
        """Raise a UserError unless the model supports a feature; see ``capabilities.require``."""
        capabilities.require(self.kinds, feature, name)

    @property
    def ends_texts(self) -> bool:
        """Whether the network was trained on texts with the end symbol after them."""
        return bool(self.card.training or self.card.pairs or self.card.block_length)

    @property
    def mask_is_evidence(self) -> bool:
        """Whether a mask tells the network about its token; see ``ClassifierFree``."""
        return isinstance(self.formulation, PerTokenFormulation) and uses_time(self.denoiser)

    def condition(self, canvas: Canvas) -> Tensor:
        """Return the tokens that guidance hides, shape (B, L), bool: all that are given."""
        return canvas.given(len(self.codec.start))

    def new_denoiser(self) -> Denoiser:
        """Return the denoiser of one run on one chunk of text, with its cache.

        Raises:
            UserError: If the network cannot have this cache.
        """
        if self.cache == "frozen":
            return FrozenDenoiser(self.denoiser)
        return posterior_denoiser(self.formulation, self.denoiser, self.cache == "exact")

    @property
    def computed_by(self) -> dict[str, str]:
        """Backend and cache, for the record; empty for the defaults."""
        # The other two caches generate the same text.
        return super().computed_by | ({"cache": "frozen"} if self.cache == "frozen" else {})

    def save_pretrained(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Save as an ordinary Hugging Face directory with ``unmask.json`` in it.

        Raises:
            UserError: If the directory holds something and ``overwrite`` is False, or the disk is
                full; what was there stays as it was. If the weights are rounded.
        """
        self._save(directory, overwrite)

    def export(
        self, directory: str | Path, *, weights: str = "float32", overwrite: bool = False
    ) -> None:
        """Save as ``save_pretrained`` does, with a copy of the network for OpenVINO.

        Args:
            directory: Where to.
            weights: Of the copy: ``float32``, or ``int8`` for a smaller and faster one.
            overwrite: Replace the model in the directory.

        Raises:
            UserError: As ``save_pretrained``; if OpenVINO is missing, or the model is conditioned
                on the time, was trained on pairs, generates blocks or cannot be exported.
        """
        self._save(directory, overwrite, weights)

    def _save(self, directory: str | Path, overwrite: bool, exported_in: str | None = None) -> None:
        if self.backend in ("torch-bf16", "torch-int8"):
            kind = "eight bits" if self.backend == "torch-int8" else "bfloat16"
            raise UserError(f"weights in {kind} are not saved; open the model with torch")
        save(
            Path(place("the folder", directory)),
            self.model,
            self.codec,
            self.card,
            self._counts,
            overwrite=overwrite,
            exported_in=exported_in,
        )


def row_length(card: Card, positions: int | None) -> int:
    """Return the tokens in a row of text to be scored, for a card and the network's positions."""
    return min(card.sequence_length or MAX_ROW_LENGTH, positions or MAX_ROW_LENGTH)


def denoiser_of(model: Any, codec: Codec, card: Card, network: Any, positions: int | None) -> Any:
    """Return the network as a denoiser, or as a block denoiser."""
    if card.block_length:
        vocab_size = model.get_output_embeddings().out_features
        return DecoderDenoiser(
            model,
            codec.not_data(vocab_size),
            codec.mask_token_id,
            card.block_length,
            start=len(codec.start),
            window=row_length(card, positions),
        )
    not_data = codec.not_data(traits_of(model).vocab_size)
    original = make_denoiser(model, not_data, codec.mask_token_id)
    return original if network is None else ExportedDenoiser(network, original)


def formulation_of(
    model: Any, codec: Codec, card: Card, denoiser: Any, counts: Tensor | None
) -> Formulation:
    """Return the formulation that a card names."""
    return make_formulation(
        card.process,
        card.schedule,
        mask_token_id=codec.mask_token_id,
        vocab_size=denoiser.vocab_size,
        data_ids=denoiser.data_ids,
        num_steps=card.num_steps,
        counts=counts,
        learned=extra_weights.learned_of(model),
        attention=card.attention,
        block_length=card.block_length,
        ordered=bool(card.images),
    )

"""What the rest of the package needs of a modality: data to token ids and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Codec(Protocol):
    """Maps data of one modality to sequences of token ids and back.

    A datum is whatever the modality generates: a ``str`` for ``data.text.TextCodec``. A sequence is
    laid out as ``start``, the ids of the datum, then ``end`` if the modality marks the end.
    """

    @property
    def mask_token_id(self) -> int:
        """The id that stands for a masked token."""

    @property
    def pad_token_id(self) -> int:
        """The id that pads short sequences."""

    @property
    def start(self) -> list[int]:
        """The ids that every sequence begins with; empty if there are none."""

    @property
    def end(self) -> int | None:
        """The id that ends a datum; None if the modality has none."""

    @property
    def symbols(self) -> Mapping[int, str]:
        """Ids that belong to no datum, such as start and padding, with their names."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer that the codec is made of; None if there is none."""

    def not_data(self, vocab_size: int) -> list[int]:
        """Return the ids below ``vocab_size`` that occur in no datum."""

    def check_entries(self, entries: int) -> None:
        """Raise a UserError unless a model with so many embeddings reads every id."""

    def save(self, directory: Path) -> None:
        """Write the files into a folder that ``unmask.json`` does not replace."""

    def spellings(self, text: str) -> list[list[int]]:
        """Return the ids of a text that is banned or wanted, in every form, for text only."""

    def encode(self, datum: Any) -> list[int]:
        """Return the ids of a datum, without start and end."""

    def encode_all(self, data: Sequence[Any]) -> list[list[int]]:
        """Return the ids of several data."""

    def decode(self, ids: list[int]) -> Any:
        """Return the datum of ids; symbols are left out."""

    def units(self, datum: Any) -> dict[str, int]:
        """Return the size of a datum in every unit that likelihoods are reported in.

        Tokens are counted by the caller. Text has ``characters`` and ``words``.
        """

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return what a rendering shows for each id of a sequence; a mask shows nothing."""

    def piece(self, token: int) -> str:
        """Return what a rendering shows for an id on its own."""

"""What the rest of the package needs of a modality: data to token ids and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


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

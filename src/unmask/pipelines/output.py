"""The result of a pipeline: texts, their cost, and a recording of every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unmask.pipelines.filling import Filling
from unmask.pipelines.trace import Track


@dataclass(frozen=True)
class Generated:
    """The result of generation.

    Attributes:
        texts: One text per sample, prompt included; for a source its target alone. Given text is
            kept byte for byte.
        nfe: Network calls, whatever their batch size.
        seconds: Wall-clock time in the sampler and the network, without rendering.
        seed: The seed that gives the same texts again.
        settings: Sampler, steps and the other options in force.
        tracks: One recording per sample; one per window for a text that is longer than the model.
        fillings: For each text the filling of each of its blanks; a prompt without blanks has one
            after it, a source its target. Empty for an autoregressive model.
        notes: Notes for the reader, one sentence each.
    """

    texts: tuple[str, ...]
    nfe: int
    seconds: float
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)
    tracks: tuple[Track, ...] = ()
    fillings: tuple[tuple[Filling, ...], ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the recordings, fit for JSON; ``text`` is the first text."""
        return {
            "text": self.texts[0],
            "texts": list(self.texts),
            "fillings": [[filling.as_dict() for filling in row] for row in self.fillings],
            "nfe": self.nfe,
            "seconds": round(self.seconds, 4),
            "seed": self.seed,
            "settings": self.settings,
            "notes": list(self.notes),
        }


def joined(parts: Sequence[Generated]) -> Generated:
    """Return the results of several batches with the same options as one result."""
    first = parts[0]
    lengths = [part.settings["length"] for part in parts]
    return replace(
        first,
        texts=tuple(text for part in parts for text in part.texts),
        nfe=sum(part.nfe for part in parts),
        seconds=sum(part.seconds for part in parts),
        settings=first.settings | {"length": max(lengths)},
        tracks=tuple(track for part in parts for track in part.tracks),
        fillings=tuple(filling for part in parts for filling in part.fillings),
    )

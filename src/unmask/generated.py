"""What a writer returns: texts, what they cost, and every step on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unmask.render.snapshot import Track


@dataclass(frozen=True)
class Generated:
    """The result of writing.

    Attributes:
        texts: One text per sample, prompt included; for a source its target alone.
        nfe: Network calls, whatever their batch size.
        seconds: Wall-clock time in the sampler and the network, without drawing.
        seed: What to pass to get the same texts again.
        settings: Sampler, steps and the other choices that were in force.
        tracks: One recording per sample; of a text that is longer than the model one per window.
    """

    texts: tuple[str, ...]
    nfe: int
    seconds: float
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)
    tracks: tuple[Track, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the recordings, fit for JSON; ``text`` is the first text."""
        return {
            "text": self.texts[0],
            "texts": list(self.texts),
            "nfe": self.nfe,
            "seconds": round(self.seconds, 4),
            "seed": self.seed,
            "settings": self.settings,
        }


def joined(parts: Sequence[Generated]) -> Generated:
    """Return what was written in several goes, with the same options, as one result."""
    first = parts[0]
    lengths = [part.settings["length"] for part in parts]
    return replace(
        first,
        texts=tuple(text for part in parts for text in part.texts),
        nfe=sum(part.nfe for part in parts),
        seconds=sum(part.seconds for part in parts),
        settings=first.settings | {"length": max(lengths)},
        tracks=tuple(track for part in parts for track in part.tracks),
    )

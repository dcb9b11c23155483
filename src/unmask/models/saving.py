"""A diffusion model on disk: an ordinary Hugging Face directory, its card and extra weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from unmask.models import checkpoint, extra_weights, loading
from unmask.models.checkpoint import Card
from unmask.models.runtimes import openvino_export, select


@dataclass(frozen=True)
class Saved:
    """The parts of a saved model.

    Attributes:
        model: The model, with weights in floating point.
        tokenizer: Its tokenizer.
        card: Process, schedule, default sampler and training history.
        counts: How often each token occurs in the training text, shape (V,); None if unknown.
    """

    model: Any
    tokenizer: Any
    card: Card
    counts: Tensor | None

    def save(self, directory: Path, overwrite: bool) -> None:
        """Save; see ``Unmasker.save_pretrained``."""
        checkpoint.claim(directory, overwrite)
        with checkpoint.staged(directory) as stage:
            self._write(stage)

    def export(self, directory: Path, weights: str, overwrite: bool) -> None:
        """Save with an exported network; see ``Unmasker.export``."""
        openvino_export.check_weights(weights)
        checkpoint.claim(directory, overwrite)
        select.check_exportable(self.card)
        graph = openvino_export.convert(self.model, weights)
        with checkpoint.staged(directory) as stage:
            self._write(stage)
            openvino_export.write(graph, weights, stage)

    def _write(self, stage: Path) -> None:
        with loading.no_bars():
            self.model.save_pretrained(stage, state_dict=extra_weights.ordinary_state(self.model))
            self.tokenizer.save_pretrained(stage)
        checkpoint.write_extra(stage, extra_weights.extra_state(self.model, self.counts))
        self.card.write(stage)

"""A diffusion model on disk: an ordinary Hugging Face directory, its card and extra weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from unmask.data.codec import Codec
from unmask.models import checkpoint, extra_weights, loading
from unmask.models.checkpoint import Card
from unmask.models.runtimes import openvino_export, select


def save(
    directory: Path,
    model: Any,
    codec: Codec,
    card: Card,
    counts: Tensor | None,
    *,
    overwrite: bool,
    exported_in: str | None = None,
) -> None:
    """Save a model; see ``Unmasker.save_pretrained`` and ``Unmasker.export``.

    Args:
        directory: Where to.
        model: The model, with weights in floating point.
        codec: Its tokenizer, or what a modality has in its place.
        card: Process, schedule, default sampler and training history.
        counts: How often each token occurs in the training text, shape (V,); None if unknown.
        overwrite: Replace the model in the directory.
        exported_in: Precision of a copy of the network for OpenVINO; None for no copy.

    Raises:
        UserError: If the directory may not be written to, or the model cannot be exported.
    """
    if exported_in is not None:
        openvino_export.PRECISION("weights", exported_in)
    checkpoint.claim(directory, overwrite)
    graph = None
    if exported_in is not None:
        select.check_exportable(card)
        graph = openvino_export.convert(model, exported_in)
    with checkpoint.staged(directory) as stage:
        with loading.no_bars():
            model.save_pretrained(stage, state_dict=extra_weights.ordinary_state(model))
            codec.save(stage)
        checkpoint.write_extra(stage, extra_weights.extra_state(model, counts))
        card.write(stage)
        if exported_in is not None:
            openvino_export.write(graph, exported_in, stage)

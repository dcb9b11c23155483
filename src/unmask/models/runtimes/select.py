"""Backends that compute the network: torch, torch in eight bits, or an exported copy.

auto         on a CPU the exported copy if the model has one and its runtime is installed, else
             the faster of torch and torch-packed; on other devices torch
torch        the model itself, on any device
torch-packed the model with packed copies of its linear layers, on a CPU
torch-bf16   the model in bfloat16, on any device that computes in it
torch-int8   the model with its linear layers in eight bits, on a CPU
openvino     the copy that ``unmask export`` made, on a CPU
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from unmask.diffusion.capabilities import PAIRS, Kind, require
from unmask.diffusion.formulation import AnyOrderFormulation, BlockFormulation
from unmask.errors import UserError
from unmask.models import extra_weights, loading
from unmask.models.checkpoint import EXPORTED, Card
from unmask.models.compat import fetched
from unmask.models.runtimes import fastest, int8, openvino, packed
from unmask.models.runtimes.openvino import Entry
from unmask.validation import Option, word

BACKENDS = ("auto", "torch", "torch-packed", "torch-bf16", "torch-int8", "openvino")
BACKEND = Option("What computes the network.", word, choices=BACKENDS)
"""Reads the name of a backend."""


def choose(
    backend: str, name: str, device: str | None, exported_too: bool = True
) -> tuple[str, str | None]:
    """Return the backend for a model, and its device.

    The backend is still ``auto`` if the model itself has to be timed; see ``settle``.

    Args:
        backend: One of ``BACKENDS``.
        name: A directory or hub id.
        device: The requested device, None for the best of the backend.
        exported_too: Whether ``auto`` may choose an exported copy.

    Raises:
        UserError: If there is no such backend, or it does not support the device.
    """
    BACKEND("backend", backend)
    if backend == "auto":
        if (loading.best_device() if device is None else device) != "cpu":
            return "torch", device
        if exported_too and openvino.installed() and entry_of(name) is not None:
            return "openvino", device
        return "auto", device
    if backend in ("torch", "torch-bf16"):
        return backend, device
    if device not in (None, "cpu"):
        raise UserError(f"the backend {backend} computes on the CPU only; leave --device out")
    return backend, "cpu"


def settle(backend: str, model: PreTrainedModel, card: Card) -> str:
    """Return the backend of ``choose``; for ``auto`` the faster exact one, see ``fastest``.

    ``auto`` never chooses a backend that rounds.
    """
    return fastest.fastest(model, _tokens_of_a_call(card)) if backend == "auto" else backend


def _tokens_of_a_call(card: Card) -> int:
    """Return the number of tokens in a typical network call that generates one row."""
    if card.kind == "causal":
        return 1
    if card.block_length:
        return card.block_length
    # With its cache, an any-order model computes new tokens and queried masks only.
    return 64 if card.attention == "full" else 8


def check_exportable(card: Card) -> None:
    """Raise a UserError if a model reads what an exported network does not, such as a cache."""
    kinds: tuple[tuple[object, Kind], ...] = (
        (card.pairs, PAIRS),
        (card.block_length, BlockFormulation),
        (card.attention != "full", AnyOrderFormulation),
    )
    require([kind for present, kind in kinds if present], "export")


def entry_of(name: str) -> Entry | None:
    """Return the entry of a model's exported copy, None if it has none.

    Raises:
        UserError: If it is damaged or from a newer version of this package.
    """
    folder = folder_of(name)
    return None if folder is None else Entry.read(folder)


def folder_of(name: str) -> Path | None:
    """Return the folder of a model with its exported copy, fetched if it is a hub id.

    None for a hub id without one.
    """
    name = loading.locate(name)
    if loading.is_local(name):
        return Path(name)
    found = None
    for file in EXPORTED:
        found = fetched(name, file)
        if found is None:
            return None
    return None if found is None else found.parent


def prepare(backend: str, name: str, model: PreTrainedModel) -> Any | None:
    """Make a model ready for a backend of ``settle``.

    Returns:
        The exported network to call in place of the model, None for the model itself.

    Raises:
        UserError: If the backend cannot compute this model.
    """
    if backend == "torch-packed":
        packed.pack(model)
    if backend == "torch-bf16":
        _in_bfloat16(model)
    if backend == "torch-int8":
        int8.quantise(model)
    if backend != "openvino":
        return None
    return openvino.open_network(folder_of(name) or Path(name))


def label(backend: str, name: str) -> str:
    """Return the name of a backend of ``settle`` in results, with the precision of an export."""
    entry = entry_of(name) if backend == "openvino" else None
    return backend if entry is None or entry.weights == "float32" else f"{backend} {entry.weights}"


def _in_bfloat16(model: PreTrainedModel) -> None:
    require(extra_weights.kinds_of(model), "bfloat16")
    if model.device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise UserError("this GPU does not compute in bfloat16; use --backend torch")
    model.bfloat16()

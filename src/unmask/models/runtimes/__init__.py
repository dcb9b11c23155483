"""Backends of a network: torch, packed weights, eight bits, OpenVINO; loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.models.runtimes.int8 import quantise
    from unmask.models.runtimes.openvino import ExportedDenoiser, open_network
    from unmask.models.runtimes.packed import pack
    from unmask.models.runtimes.select import BACKENDS

__all__ = [
    "BACKENDS",
    "ExportedDenoiser",
    "open_network",
    "pack",
    "quantise",
]

_HOMES = {
    "int8": "quantise",
    "openvino": "ExportedDenoiser open_network",
    "packed": "pack",
    "select": "BACKENDS",
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

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
    "BACKENDS": "select",
    "ExportedDenoiser": "openvino",
    "open_network": "openvino",
    "pack": "packed",
    "quantise": "int8",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

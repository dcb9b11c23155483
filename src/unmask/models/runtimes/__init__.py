"""Backends of a network: torch, packed weights, eight bits, OpenVINO; loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.models.runtimes.int8 import quantise as quantise
    from unmask.models.runtimes.openvino import ExportedDenoiser as ExportedDenoiser
    from unmask.models.runtimes.openvino import open_network as open_network
    from unmask.models.runtimes.packed import pack as pack
    from unmask.models.runtimes.select import BACKENDS as BACKENDS

__getattr__, __dir__ = lazy(__name__)

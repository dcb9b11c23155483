"""Forward processes: how clean tokens are corrupted."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.diffusion.processes.absorbing import AbsorbingProcess, bert_replacement
    from unmask.diffusion.processes.absorbing_per_token import PerTokenProcess
    from unmask.diffusion.processes.base import Corrupted, MaskingProcess, TransitionProcess
    from unmask.diffusion.processes.gaussian import GaussianProcess
    from unmask.diffusion.processes.uniform import UniformProcess

__all__ = [
    "AbsorbingProcess",
    "Corrupted",
    "GaussianProcess",
    "MaskingProcess",
    "PerTokenProcess",
    "TransitionProcess",
    "UniformProcess",
    "bert_replacement",
]

_HOMES = {
    "unmask.diffusion.processes.absorbing": "AbsorbingProcess bert_replacement",
    "unmask.diffusion.processes.absorbing_per_token": "PerTokenProcess",
    "unmask.diffusion.processes.base": "Corrupted MaskingProcess TransitionProcess",
    "unmask.diffusion.processes.gaussian": "GaussianProcess",
    "unmask.diffusion.processes.uniform": "UniformProcess",
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'unmask.diffusion.processes' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

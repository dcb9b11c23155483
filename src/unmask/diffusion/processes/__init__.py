"""Forward processes: how clean tokens are corrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

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

__getattr__, __dir__ = lazy(__name__)

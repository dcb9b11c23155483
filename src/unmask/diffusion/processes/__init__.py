"""Forward processes: how clean tokens are corrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.diffusion.processes.absorbing import AbsorbingProcess as AbsorbingProcess
    from unmask.diffusion.processes.absorbing import bert_replacement as bert_replacement
    from unmask.diffusion.processes.absorbing_per_token import PerTokenProcess as PerTokenProcess
    from unmask.diffusion.processes.base import Corrupted as Corrupted
    from unmask.diffusion.processes.base import MaskingProcess as MaskingProcess
    from unmask.diffusion.processes.base import TransitionProcess as TransitionProcess
    from unmask.diffusion.processes.gaussian import GaussianProcess as GaussianProcess
    from unmask.diffusion.processes.uniform import UniformProcess as UniformProcess

__getattr__, __dir__ = lazy(__name__)

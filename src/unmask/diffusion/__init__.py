"""The forward side: schedules, processes, objectives, and the contract of a denoiser.

    from unmask.diffusion import AbsorbingProcess, Polynomial, continuous_nelbo

Importing this package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.diffusion.denoiser import Denoiser as Denoiser
    from unmask.diffusion.formulation import Formulation as Formulation
    from unmask.diffusion.objectives import Loss as Loss
    from unmask.diffusion.objectives import block_nelbo as block_nelbo
    from unmask.diffusion.objectives import continuous_nelbo as continuous_nelbo
    from unmask.diffusion.objectives import discrete_nelbo as discrete_nelbo
    from unmask.diffusion.objectives import exact_k_nelbo as exact_k_nelbo
    from unmask.diffusion.objectives import order_nelbo as order_nelbo
    from unmask.diffusion.objectives import rloo_nelbo as rloo_nelbo
    from unmask.diffusion.objectives import tokenwise_nelbo as tokenwise_nelbo
    from unmask.diffusion.objectives import transition_nelbo as transition_nelbo
    from unmask.diffusion.objectives import uniform_nelbo as uniform_nelbo
    from unmask.diffusion.processes import AbsorbingProcess as AbsorbingProcess
    from unmask.diffusion.processes import GaussianProcess as GaussianProcess
    from unmask.diffusion.processes import PerTokenProcess as PerTokenProcess
    from unmask.diffusion.processes import UniformProcess as UniformProcess
    from unmask.diffusion.registry import make_formulation as make_formulation
    from unmask.diffusion.rng import RowRng as RowRng
    from unmask.diffusion.schedules import Cosine as Cosine
    from unmask.diffusion.schedules import Geometric as Geometric
    from unmask.diffusion.schedules import LearnedExponents as LearnedExponents
    from unmask.diffusion.schedules import LogLinear as LogLinear
    from unmask.diffusion.schedules import Polynomial as Polynomial
    from unmask.diffusion.schedules import make_schedule as make_schedule
    from unmask.diffusion.schedules import spindle as spindle
    from unmask.diffusion.schedules import stratified_times as stratified_times
    from unmask.diffusion.schedules import time_grid as time_grid

__getattr__, __dir__ = lazy(__name__)

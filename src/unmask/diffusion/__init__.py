"""The forward side: schedules, processes, objectives, and the contract of a denoiser.

    from unmask.diffusion import AbsorbingProcess, Polynomial, continuous_nelbo

Importing this package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.diffusion.denoiser import Denoiser
    from unmask.diffusion.formulation import Formulation
    from unmask.diffusion.objectives import (
        Loss,
        block_nelbo,
        continuous_nelbo,
        discrete_nelbo,
        exact_k_nelbo,
        order_nelbo,
        rloo_nelbo,
        tokenwise_nelbo,
        transition_nelbo,
        uniform_nelbo,
    )
    from unmask.diffusion.processes import AbsorbingProcess, PerTokenProcess, UniformProcess
    from unmask.diffusion.registry import make_formulation
    from unmask.diffusion.rng import RowRng
    from unmask.diffusion.schedules import (
        Cosine,
        Geometric,
        LearnedExponents,
        LogLinear,
        Polynomial,
        make_schedule,
        spindle,
        stratified_times,
        time_grid,
    )

__all__ = [
    "AbsorbingProcess",
    "Cosine",
    "Denoiser",
    "Formulation",
    "Geometric",
    "LearnedExponents",
    "LogLinear",
    "Loss",
    "PerTokenProcess",
    "Polynomial",
    "RowRng",
    "UniformProcess",
    "block_nelbo",
    "continuous_nelbo",
    "discrete_nelbo",
    "exact_k_nelbo",
    "make_formulation",
    "make_schedule",
    "order_nelbo",
    "rloo_nelbo",
    "spindle",
    "stratified_times",
    "time_grid",
    "tokenwise_nelbo",
    "transition_nelbo",
    "uniform_nelbo",
]

__getattr__, __dir__ = lazy(__name__)

"""The forward side: schedules, processes, objectives, and the contract of a denoiser.

    from unmask.diffusion import AbsorbingProcess, Polynomial, continuous_nelbo

Importing this package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

_HOMES = {
    "unmask.diffusion.denoiser": "Denoiser",
    "unmask.diffusion.formulation": "Formulation",
    "unmask.diffusion.registry": "make_formulation",
    "unmask.diffusion.rng": "RowRng",
    "unmask.diffusion.objectives": (
        "Loss block_nelbo continuous_nelbo discrete_nelbo exact_k_nelbo order_nelbo "
        "rloo_nelbo tokenwise_nelbo transition_nelbo uniform_nelbo"
    ),
    "unmask.diffusion.processes": "AbsorbingProcess PerTokenProcess UniformProcess",
    "unmask.diffusion.schedules": (
        "Cosine Geometric LearnedExponents LogLinear Polynomial make_schedule spindle "
        "stratified_times time_grid"
    ),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'unmask.diffusion' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

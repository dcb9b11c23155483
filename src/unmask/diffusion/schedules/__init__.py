"""Noise schedules alpha(t), the probability that a token is still visible at time t; time grids."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.diffusion.schedules.continuous import (
        SCHEDULES,
        Cosine,
        FromMasks,
        Geometric,
        LogLinear,
        Polynomial,
        Schedule,
        make_schedule,
    )
    from unmask.diffusion.schedules.grids import given_grid, stratified_times, time_grid
    from unmask.diffusion.schedules.per_token import (
        LearnedExponents,
        Spindle,
        TokenSchedule,
        TokensFromMasks,
        spindle,
    )
    from unmask.diffusion.schedules.tabulated import (
        Tabulated,
        d3pm_cosine,
        gaussian_betas,
        mutual_information,
    )

__all__ = [
    "SCHEDULES",
    "Cosine",
    "FromMasks",
    "Geometric",
    "LearnedExponents",
    "LogLinear",
    "Polynomial",
    "Schedule",
    "Spindle",
    "Tabulated",
    "TokenSchedule",
    "TokensFromMasks",
    "d3pm_cosine",
    "gaussian_betas",
    "given_grid",
    "make_schedule",
    "mutual_information",
    "spindle",
    "stratified_times",
    "time_grid",
]

_HOMES = {
    "unmask.diffusion.schedules.continuous": (
        "Cosine FromMasks Geometric LogLinear Polynomial SCHEDULES Schedule make_schedule"
    ),
    "unmask.diffusion.schedules.grids": "given_grid stratified_times time_grid",
    "unmask.diffusion.schedules.per_token": (
        "LearnedExponents Spindle TokenSchedule TokensFromMasks spindle"
    ),
    "unmask.diffusion.schedules.tabulated": (
        "Tabulated d3pm_cosine gaussian_betas mutual_information"
    ),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'unmask.diffusion.schedules' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Noise schedules alpha(t), the probability that a token is still visible at time t; time grids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

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
        LinearBeta,
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
    "LinearBeta",
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

__getattr__, __dir__ = lazy(__name__)

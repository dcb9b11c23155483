"""Noise schedules alpha(t), the probability that a token is still visible at time t; time grids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.diffusion.schedules.continuous import SCHEDULES as SCHEDULES
    from unmask.diffusion.schedules.continuous import Cosine as Cosine
    from unmask.diffusion.schedules.continuous import FromMasks as FromMasks
    from unmask.diffusion.schedules.continuous import Geometric as Geometric
    from unmask.diffusion.schedules.continuous import LogLinear as LogLinear
    from unmask.diffusion.schedules.continuous import Polynomial as Polynomial
    from unmask.diffusion.schedules.continuous import Schedule as Schedule
    from unmask.diffusion.schedules.continuous import make_schedule as make_schedule
    from unmask.diffusion.schedules.grids import given_grid as given_grid
    from unmask.diffusion.schedules.grids import stratified_times as stratified_times
    from unmask.diffusion.schedules.grids import time_grid as time_grid
    from unmask.diffusion.schedules.per_token import LearnedExponents as LearnedExponents
    from unmask.diffusion.schedules.per_token import Spindle as Spindle
    from unmask.diffusion.schedules.per_token import TokenSchedule as TokenSchedule
    from unmask.diffusion.schedules.per_token import TokensFromMasks as TokensFromMasks
    from unmask.diffusion.schedules.per_token import spindle as spindle
    from unmask.diffusion.schedules.tabulated import LinearBeta as LinearBeta
    from unmask.diffusion.schedules.tabulated import Tabulated as Tabulated
    from unmask.diffusion.schedules.tabulated import d3pm_cosine as d3pm_cosine
    from unmask.diffusion.schedules.tabulated import gaussian_betas as gaussian_betas
    from unmask.diffusion.schedules.tabulated import mutual_information as mutual_information

__getattr__, __dir__ = lazy(__name__)

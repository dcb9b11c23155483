"""Times: stratified times for training, and the time grids of samplers and T-step bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from unmask.errors import UserError
from unmask.validation import one_of


def stratified_times(count: int, generator: torch.Generator) -> Tensor:
    """Draw times in (0, 1] that cover the unit interval evenly, one per sequence.

        t_i = (u + pi(i)) / count mod 1,   u ~ U(0, 1) shared, pi a random permutation

    Each t_i is uniform, so the estimate for every single row stays unbiased (without the shift and
    permutation row i would only get its own stratum). Together the times reduce the variance of the
    batch mean.

    Args:
        count: Number of times to draw.
        generator: Source of randomness; its device is that of the result.

    Returns:
        float64 times of shape (count,).

    Reference: Shi et al. 2024, arXiv:2406.04329, Section 4 (low-discrepancy time sampling).
    """
    device = generator.device
    shift = torch.rand((), dtype=torch.float64, generator=generator, device=device)
    # A float64 scalar does not promote a float32 vector: the permutation must be float64 itself.
    order = torch.randperm(count, generator=generator, device=device).double()
    return 1 - (order / count + shift) % 1


GRIDS = ("uniform", "cosine")


def time_grid(num_steps: int, kind: str = "uniform") -> Tensor:
    """Return the num_steps + 1 times of a sampler, from 1 down to exactly 0, float64.

    Args:
        num_steps: Number of steps, at least 1.
        kind: ``uniform`` or ``cosine``: t -> cos(pi/2 (1 - t)), which with the linear schedule has
            the mask rates of the cosine schedule on the uniform grid.

    Reference: Shi et al. 2024, arXiv:2406.04329, Section 5.
    """
    t = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)
    if one_of("grid", kind, GRIDS) == "uniform":
        return t
    grid = torch.sin(math.pi / 2 * t)
    grid[0] = 1
    return grid


def grid_step(t: Tensor, num_steps: int, grid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Map uniform times to steps of a grid; return the start and the end of each step.

    Step j of T, counted from the clean end, gets the times ((j - 1) / T, j / T], so every step is
    equally likely, however long it is.

    Args:
        t: Uniform times in (0, 1], any shape.
        num_steps: Number of steps, T.
        grid: The T + 1 times of the grid, from 1 down to 0, float64; None for equal steps.

    Returns:
        The later and the earlier time of each step, float64, in the shape of t.

    Raises:
        UserError: If the grid has another number of steps.
    """
    index = torch.ceil(t.double() * num_steps).clamp(1, num_steps)
    if grid is None:
        return index / num_steps, (index - 1) / num_steps
    if len(grid) != num_steps + 1:
        raise UserError(f"{num_steps} steps need a grid of {num_steps + 1} times, not {len(grid)}")
    place = num_steps - index.long()
    grid = grid.to(t.device, torch.float64)
    return grid[place], grid[place + 1]


def check_times(grid: Tensor, trained: int) -> None:
    """Raise a UserError unless all times of a grid are among j / T, T = ``trained`` steps."""
    steps = grid.double() * trained
    if bool(((steps - steps.round()).abs() > 1e-6).any()):
        raise UserError(
            f"the times of this grid are not among the {trained} steps that this model was trained "
            "in; take the grid 'uniform' with a number of steps that divides them"
        )


def check_strides(num_steps: int, trained: int) -> None:
    """Raise a UserError, with the nearest that would, unless a number of steps divides another."""
    if trained % num_steps:
        divisors = (n for n in range(1, trained + 1) if trained % n == 0)
        near = min(divisors, key=lambda n: abs(n - num_steps))
        raise UserError(
            f"{num_steps} steps take no equal strides over the {trained} that this model was "
            f"trained in; {near} would"
        )


def given_grid(times: Sequence[float]) -> Tensor:
    """Return a user's own times as the time grid of a sampler, float64.

    Raises:
        UserError: If they do not decrease strictly from 1 to 0.
    """
    grid = torch.tensor(list(times), dtype=torch.float64)
    if len(grid) < 2 or grid[0] != 1 or grid[-1] != 0 or not bool((grid.diff() < 0).all()):
        shown = ", ".join(f"{time:g}" for time in times[:9]) + ", ..." * (len(times) > 9)
        raise UserError(
            "the times of a grid begin at 1, fall at every step and end at 0, such as 1, 0.5, 0, "
            f"not {shown or 'none'}"
        )
    return grid

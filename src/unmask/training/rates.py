"""The learning rate of a run: a warm-up of at most a share of it, then the recipe's schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from transformers import get_scheduler

CLOCKED = (
    *("linear", "cosine", "cosine_with_restarts", "polynomial"),
    *("constant", "constant_with_warmup", "warmup_stable_decay"),
)
"""Schedules of transformers that depend only on the share of the run that has passed."""

DECAY = 0.3
"""Share at the end of a run in which ``warmup_stable_decay`` falls linearly to 0."""

_FINE = 1_000_000  # Steps of the library's schedule in a time budget.


def warmup_steps(steps: int, share: float, total: int) -> int:
    """Return the warm-up steps of a run of ``total``: ``steps``, but at most a share of all."""
    return min(steps, math.floor(share * total))


def options(name: str, total: int) -> dict[str, Any]:
    """Return what the library's schedule takes besides the warm-up and the steps of the run."""
    if name != "warmup_stable_decay":
        return {}
    return {"num_decay_steps": math.ceil(DECAY * total), "decay_type": "linear"}


def shape(name: str, learning_rate: float) -> Callable[[float], float]:
    """Return the factor of the learning rate at a share of the run, in [0, 1], without warm-up.

    Args:
        name: One of ``CLOCKED``.
        learning_rate: The highest learning rate, which ``polynomial`` depends on.
    """
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=learning_rate)
    factor = get_scheduler(name, optimizer, 0, _FINE, options(name, _FINE))
    return lambda gone: float(factor.lr_lambdas[0](round(min(gone, 1.0) * _FINE)))


def ramp(step: int, gone: float, steps: int, share: float) -> float:
    """Return the factor of a linear warm-up that ends by steps or by time, whichever is first.

    Args:
        step: Optimiser steps taken.
        gone: Share of the time that has passed.
        steps: Warm-up steps; 0 for none.
        share: Largest share of the time that warm-up takes.
    """
    if not steps or not share:
        return 1.0
    return min(1.0, max((step + 1) / steps, gone / share))

"""The learning rate of a run: a warm-up that is a share of it at most, then the recipe's shape."""

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
"""Shapes of transformers that are functions of the share of the run that is gone."""

DECAY = 0.3
"""Share of a run, its last part, in which ``warmup_stable_decay`` falls, linearly to 0."""

_FINE = 1_000_000  # Steps of the library's schedule that a time budget is divided into.


def warmup_steps(steps: int, share: float, total: int) -> int:
    """Return the steps of warm-up of a run of ``total``: ``steps``, but at most a share of all."""
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
        gone: Share of the time that is gone.
        steps: Steps of warm-up; 0 for none.
        share: Largest share of the time that warm-up takes.
    """
    if not steps or not share:
        return 1.0
    return min(1.0, max((step + 1) / steps, gone / share))

"""Exact denoisers of distributions whose conditionals are known; loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.evaluation.oracles.block import BlockOracle
    from unmask.evaluation.oracles.joint import (
        JointOracle,
        LeaveOneOutOracle,
        MarkovOracle,
        TokenwiseOracle,
    )
    from unmask.evaluation.oracles.markov import SecondOrderOracle

__all__ = [
    "BlockOracle",
    "JointOracle",
    "LeaveOneOutOracle",
    "MarkovOracle",
    "SecondOrderOracle",
    "TokenwiseOracle",
]

_HOMES = {
    "block": "BlockOracle",
    "joint": "JointOracle LeaveOneOutOracle MarkovOracle TokenwiseOracle",
    "markov": "SecondOrderOracle",
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

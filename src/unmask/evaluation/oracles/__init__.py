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
    "BlockOracle": "block",
    "JointOracle": "joint",
    "LeaveOneOutOracle": "joint",
    "MarkovOracle": "joint",
    "SecondOrderOracle": "markov",
    "TokenwiseOracle": "joint",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

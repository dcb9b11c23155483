"""Exact denoisers of distributions whose conditionals are known; loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

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

__getattr__, __dir__ = lazy(__name__)
